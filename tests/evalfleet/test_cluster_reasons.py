"""What goes wrong on a cluster, produced for real: the right reason within half a minute, and what to do about it."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import Client
from operator_bench import Bench, bench, condition, has, running_operator, seconds_until, terminal, toy, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

IN_TIME_SECONDS = 30.0


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("reasons")
    with bench(shared_cluster, cluster_client, "reasons", folder) as made, running_operator(made):
        yield made


def test_a_wrong_model_path_says_which(place: Bench) -> None:
    model = f"file://{place.folder}/no-such-model"
    task = {
        "name": "task",
        "lmEval": {"taskConfig": {"task": "t", "dataset_path": "json", "output_type": "loglikelihood"}},
    }
    place.create("model", model={"uri": model}, evaluations=[task], confirmRunUnsafeCode=False)
    job = place.wait("model", terminal)
    assert_failed(job, "InvalidModelRef", "no-such-model")


def test_an_image_without_python_says_so_at_once(place: Bench) -> None:
    place.create("python", worker={"image": "evalfleet/no-python:1"})
    job = place.wait("python", terminal)
    assert_failed(job, "InvalidImage", "evalfleet/no-python:1", "spec.worker.image")


def test_an_image_without_the_worker_says_so_at_once(place: Bench) -> None:
    place.create("worker", worker={"image": "evalfleet/no-worker:1"})
    job = place.wait("worker", terminal)
    assert_failed(job, "InvalidImage", "evalfleet/no-worker:1", "evalfleet_worker", "spec.worker.image")


def test_an_image_that_cannot_be_pulled_is_waited_for(place: Bench) -> None:
    place.create("pull", worker={"image": "elsewhere/image:1"})
    job = place.wait_for("pull", "Planned", "Unknown", "WaitingForImage")
    assert "elsewhere/image:1" in condition(job, "Planned")["message"]
    assert has(job, "Reconciling")
    assert seconds_until(job, "Planned") <= IN_TIME_SECONDS


@pytest.mark.parametrize("member", ["store", "model"])
def test_a_missing_secret_is_named_and_the_job_goes_on_when_it_is_created(place: Bench, member: str) -> None:
    places = {"store": {"uri": f"file://{place.folder}/runs"}, "model": {"uri": "hf://none/needed"}}
    place.create(f"secret-{member}", **{member: {**places[member], "secretName": f"{member}-credentials"}})
    job = place.wait_for(f"secret-{member}", "Planned", "Unknown", "SecretMissing")
    message = condition(job, "Planned")["message"]
    assert f"{member}-credentials" in message
    assert f"spec.{member}.secretName" in message
    assert seconds_until(job, "Planned") <= IN_TIME_SECONDS
    assert not has(job, "Failed")
    place.kubectl("create", "secret", "generic", f"{member}-credentials", "--from-literal=USER_KEY=1")
    place.wait_for(f"secret-{member}", "Succeeded")


def test_planning_that_runs_out_of_memory_fails_with_the_limit(place: Bench) -> None:
    small = {"resources": {"memory": "150Mi", "cpu": "100m"}}
    place.create("plan-memory", evaluations=[toy("t", plan_megabytes="400")], worker=small)
    job = place.wait("plan-memory", terminal)
    assert_failed(job, "OutOfMemory", "150Mi", "spec.worker.resources.memory")
    assert "another attempt" not in condition(job, "Failed")["message"]


def test_a_worker_that_runs_out_of_memory_says_so_while_it_is_tried_again(place: Bench) -> None:
    small = {"resources": {"memory": "150Mi", "cpu": "100m"}}
    place.create("work-memory", evaluations=[toy("t", megabytes="400")], worker=small, backoffLimit=0)
    job = place.wait("work-memory", lambda job: has(job, "WorkersReady", "False", "OutOfMemory") or terminal(job))
    shown = condition(job, "WorkersReady" if not terminal(job) else "Failed")
    assert shown["reason"] == "OutOfMemory"
    assert "150Mi" in shown["message"]
    assert "spec.worker.resources.memory" in shown["message"]
    assert seconds_until(job, shown["type"]) <= IN_TIME_SECONDS


def test_a_service_account_that_does_not_exist_says_where_to_look(place: Bench) -> None:
    place.create("account", worker={"serviceAccountName": "nobody"})
    job = place.wait_for("account", "Planned", "Unknown", "WaitingForPod")
    assert "kubectl describe job account-plan" in condition(job, "Planned")["message"]


@pytest.mark.slow
def test_a_full_quota_is_waited_for_and_a_refused_worker_is_told_to_its_job(place: Bench) -> None:
    place.kubectl("delete", "evj", "--all", "--wait", "--timeout=60s")
    wait_until(lambda: not [one for one in place.children() if one.startswith("jobs/")], "Jobs are left")
    place.kubectl("create", "quota", "few", "--hard=count/jobs.batch=1")
    place.client.wait(
        f"/api/v1/namespaces/{place.namespace}/resourcequotas/few", lambda few: "used" in (few.get("status") or {})
    )
    place.create("second")
    job = place.wait_for("second", "Admitted", "False", "WaitingForQuota")
    assert "few" in condition(job, "Admitted")["message"]
    assert has(job, "Reconciling")
    assert not has(job, "Stalled")
    place.create("third")
    place.wait_for("third", "Ready", "False", "WaitingForQuota")
    place.kubectl("delete", "quota", "few")
    for name in ("second", "third"):
        place.wait_for(name, "Succeeded")


def assert_failed(job: dict[str, Any], reason: str, *words: str) -> None:
    failed = condition(job, "Failed")
    assert failed["reason"] == reason, failed
    assert [word for word in words if word not in failed["message"]] == [], failed["message"]
    assert seconds_until(job, "Failed") <= IN_TIME_SECONDS
    assert condition(job, "Succeeded")["reason"] == reason
    assert not has(job, "Reconciling")
