"""What people and GitOps tools see through kubectl: waiting, kstatus, explain, columns, and deletion at every stage."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_client import Client
from operator_bench import Bench, OperatorProcess, bench, condition, has, policy, running_operator, terminal, toy

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"
HELD = {"plan_megabytes": "1"}
"""Parameters that keep a toy evaluation planning for a minute."""


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "kubectl", tmp_path_factory.mktemp("kubectl")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


def kstatus(found: Object) -> str:
    """The status that kstatus computes, and with it Flux and Argo CD (cli-utils pkg/kstatus/status/generic.go)."""
    metadata, status = found["metadata"], found.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    for item in status.get("conditions") or []:
        if item["status"] == "True" and item["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if item["type"] == "Reconciling" else "Failed"
    for item in status.get("conditions") or []:
        if item["type"] == "Ready":
            return "Current" if item["status"] == "True" else "InProgress"
    return "Current"


def test_kstatus_calls_an_object_in_progress_until_its_results_are_published(
    place: Bench, operator: OperatorProcess
) -> None:
    place.create("good")
    seen: list[str] = []
    ended = place.wait("good", lambda job: bool(seen.append(kstatus(job)) or terminal(job)))  # type: ignore[func-returns-value]
    assert seen == ["InProgress"] * (len(seen) - 1) + ["Current"]
    assert len(seen) > 2
    assert ended["status"]["observedGeneration"] == ended["metadata"]["generation"]
    assert {c["observedGeneration"] for c in ended["status"]["conditions"]} == {1}


def test_kubectl_wait_ends_on_success_and_again_after_an_edit_of_what_is_finished(
    place: Bench, operator: OperatorProcess
) -> None:
    place.create("waited")
    for kind in ("Planned", "Succeeded", "Ready"):
        assert "condition met" in place.kubectl("wait", f"--for=condition={kind}", "evj/waited", "--timeout=120s")
    place.patch("waited", ttlSecondsAfterFinished=3600)
    assert "condition met" in place.kubectl("wait", "--for=condition=Ready", "evj/waited", "--timeout=60s")
    assert kstatus(place.wait("waited", lambda job: kstatus(job) != "InProgress")) == "Current"


def test_kubectl_wait_ends_on_failure(place: Bench, operator: OperatorProcess) -> None:
    place.create("bad", worker={"image": "evalfleet/no-python:1"})
    assert "condition met" in place.kubectl("wait", "--for=condition=Failed", "evj/bad", "--timeout=60s")
    assert "timed out" in place.kubectl("wait", "--for=condition=Succeeded", "evj/bad", "--timeout=1s", fails=True)
    job = place.wait("bad", terminal)
    assert kstatus(job) == "Failed"
    assert condition(job, "Ready")["reason"] == condition(job, "Stalled")["reason"] == "InvalidImage"
    place.patch("bad", ttlSecondsAfterFinished=3600)
    edited = place.wait("bad", lambda found: kstatus(found) != "InProgress")
    assert kstatus(edited) == "Failed"
    assert has(edited, "Failed", reason="InvalidImage")


def test_what_the_api_server_refuses_is_stalled_and_not_in_progress(place: Bench, operator: OperatorProcess) -> None:
    place.create("refused", worker={"nodeSelector": {"not a label!": "x"}})
    job = place.wait_for("refused", "Stalled", reason="ObjectRefused")
    assert kstatus(job) == "Failed"


def objects(schema: Object, path: str) -> Iterator[tuple[str, Object]]:
    """Every object of a schema that has members, by its path in `kubectl explain`."""
    inner = schema.get("items") or schema
    if inner.get("properties"):
        yield path, inner["properties"]
        for name, member in inner["properties"].items():
            yield from objects(member, f"{path}.{name}")


@pytest.mark.parametrize("plural", ["evaluationjobs", "scalingpolicies"])
def test_kubectl_explain_describes_every_field(place: Bench, plural: str) -> None:
    crd = yaml.safe_load((CRDS / f"{plural}.evalfleet.io.yaml").read_text("utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for part in ("spec", "status"):
        for path, members in objects(schema["properties"][part], f"{plural}.{part}"):
            told = place.kubectl("explain", path)
            words = " ".join(told.split())
            assert "<no description>" not in told, told
            missing = [
                name for name, member in members.items() if f" {name} <" not in words or not _told(member, words)
            ]
            assert missing == [], f"{path}: {told}"


def _told(member: Object, words: str) -> bool:
    return " ".join(str(member["description"]).split()) in words


@pytest.mark.slow
def test_the_columns_show_a_run_and_its_end(place: Bench, operator: OperatorProcess) -> None:
    slow = toy("slow", count="200", seconds="0.04")
    far = {"deadlineTime": "2999-01-01T00:00:00Z", "onInfeasible": "RunAnyway"}  # spot alone guarantees nothing
    place.create("columns", evaluations=[slow], sla=far)
    place.wait("columns", lambda job: bool((job.get("status") or {}).get("progress", {}).get("percent")))
    running = columns(place, "columns")
    assert running["WORKERS"] == "1"
    assert 0 < int(running["DONE"]) <= 100
    assert running["DEADLINE"] == "2999-01-01T00:00:00Z"
    assert "<invalid>" not in running.values()
    place.wait_for("columns", "Succeeded")
    done = columns(place, "columns")
    assert (done["DONE"], done["SUCCEEDED"], done["REASON"], done["WORKERS"]) == ("100", "True", "Succeeded", "0")
    assert "columns" in place.kubectl("get", "evalfleet")
    assert "default" in place.kubectl("get", "evp")


def columns(place: Bench, name: str) -> dict[str, str]:
    """The columns of `kubectl get evj -o wide`; the narrow ones are among them."""
    narrow = place.kubectl("get", "evj", name).splitlines()[0].split()
    assert narrow == ["NAME", "STATE", "MODEL", "DONE", "WORKERS", "ETA", "SUCCEEDED", "AGE"]
    head, row = place.kubectl("get", "evj", name, "-o", "wide").splitlines()
    starts = [head.index(title) for title in head.split()]
    cells = [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return dict(zip(head.split(), cells, strict=True))


@pytest.mark.parametrize(
    "down", [pytest.param(False, id="operator-up", marks=pytest.mark.slow), pytest.param(True, id="operator-down")]
)
def test_deletion_at_every_stage_hangs_nowhere_and_leaves_nothing(
    place: Bench, operator: OperatorProcess, down: bool
) -> None:
    slow = [toy("slow", count="2000", seconds="0.1")]
    place.client.create(
        place.job_path().replace("evaluationjobs", "scalingpolicies"), tight_policy(place, f"tight-{down}".lower())
    )
    place.create("done")
    place.create("planning", evaluations=[toy("held", **HELD)])
    place.create("no-node", worker={"nodeSelector": {"no": "node"}})
    place.create("running", evaluations=slow, policyName=f"tight-{down}".lower())
    place.wait_for("running", "WorkersReady")
    place.create("queued", evaluations=slow, policyName=f"tight-{down}".lower())
    place.create("suspended", evaluations=slow, suspend=True)
    place.wait_for("done", "Succeeded")
    place.wait("queued", lambda job: has(job, "WorkersReady", "False"))
    place.wait_for("no-node", "Planned", "Unknown", "WaitingForNode")
    place.wait_for("suspended", "Suspended")
    place.create("finishing")
    place.wait_for_child("finishing-finish")
    assert place.children("planning-plan")
    if down:
        operator.end(signal.SIGKILL)
    place.create("created")
    names = ("created", "planning", "no-node", "queued", "running", "suspended", "finishing", "done")
    place.kubectl("delete", "evj", *names, "--wait", "--timeout=60s")
    for name in names:
        place.wait_until_gone(name)
    if down:
        operator.start()


def test_a_job_that_somebodys_finalizer_holds_says_that_it_is_being_deleted(
    place: Bench, operator: OperatorProcess
) -> None:
    place.create("held", evaluations=[toy("slow", count="2000", seconds="0.1")], maxWorkers=1)
    path = place.job_path("held")
    place.client.patch(path, {"metadata": {"finalizers": ["example.com/hold"]}})
    place.wait("held", lambda job: has(job, "WorkersReady") and "estimatedLow" in job["status"].get("progress", {}))
    place.client.delete(path)
    place.wait("held", lambda job: not place.pods("held") and job["status"]["workers"]["ready"] == 0)
    gone = place.wait("held", lambda job: job["status"]["observedGeneration"] == job["metadata"]["generation"])
    status = gone["status"]
    assert status["state"] == "Deleting"
    assert not has(gone, "WorkersReady")
    assert not {name for name in status["progress"] if name.startswith("estimated")}
    assert {c["observedGeneration"] for c in status["conditions"]} == {status["observedGeneration"]}
    writers = {entry["manager"] for entry in gone["metadata"]["managedFields"] if entry.get("subresource") == "status"}
    assert writers == {"evalfleet"}
    place.client.patch(path, {"metadata": {"finalizers": None}})
    place.wait_until_gone("held")


def tight_policy(place: Bench, name: str) -> Object:
    """A policy with room for one worker."""
    manifest = policy(place.folder / "runs", limits={"maxWorkers": 1})
    return {**manifest, "metadata": {"name": name}}
