"""A run holds still: policies, settings and versions change in the middle of it, and it ends as if nothing had."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_client import ApiError, Client
from lifecycle import done_units, samples, toy_units, worker_jobs
from operator_bench import (
    Bench,
    OperatorProcess,
    bench,
    condition,
    has,
    install_crds,
    policy,
    running_operator,
    wait_until,
)

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"
UNITS = 10
PLANNED_WITH = "evalfleet/toy:test"
"""The image of the bench's policy."""


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "frozen", tmp_path_factory.mktemp("frozen")) as made:
        yield made


@pytest.fixture(scope="module")
def calm(place: Bench) -> dict[str, bytes]:
    """The published bytes of a run that nothing happened to."""
    with operating(place):
        place.create("calm", evaluations=[toy_units(UNITS, 0.05)], maxWorkers=2)
        return samples(place.wait_for("calm", "Succeeded"))


def operating(place: Bench, **environment: str) -> AbstractContextManager[OperatorProcess]:
    """An operator that is the only one: the next need not wait for its Lease."""
    return running_operator(place, EVALFLEET_LEADER_ELECTION="false", **environment)


def policy_path(place: Bench) -> str:
    return f"/apis/evalfleet.io/v1alpha1/namespaces/{place.namespace}/scalingpolicies"


@contextmanager
def edited_policy(place: Bench) -> Iterator[None]:
    """Whatever a test does to the policy, the next one finds it as it was."""
    try:
        yield
    finally:
        path = policy_path(place)
        if place.client.find(f"{path}/default") is not None:
            place.client.delete(f"{path}/default")
        place.client.create(path, policy(place.folder / "runs"))


def begin(place: Bench, name: str, seconds_per_unit: float = 0.6) -> None:
    """A run in its middle, with one worker of two that it may have."""
    place.create(name, evaluations=[toy_units(UNITS, seconds_per_unit)], maxWorkers=1)
    place.wait(name, lambda job: done_units(job) >= 1)


def end(place: Bench, name: str, calm: dict[str, bytes]) -> set[str]:
    """The run has ended with the bytes of the undisturbed one; the images of all pods that were seen on the way."""
    images: set[str] = set()

    def succeeded(job: Object) -> bool:
        images.update(pod["spec"]["containers"][0]["image"] for pod in place.pods(name))
        assert not has(job, "Failed"), job["status"]
        return has(job, "Succeeded")

    assert samples(place.wait(name, succeeded)) == calm
    return images


def test_an_edited_policy_holds_for_later_runs(place: Bench, calm: dict[str, bytes]) -> None:
    with edited_policy(place), operating(place):
        begin(place, "edited")
        changed: Object = {
            "pools": [
                {
                    "name": "dearer",
                    "capacityType": "Spot",
                    "nodeSelector": {"karpenter.sh/nodepool": "spot"},
                    "pricePerHour": "7.00",
                    "maxWorkers": 4,
                }
            ],
            "store": {"uri": f"file://{place.folder}/elsewhere", "secretName": "nobody"},
            "worker": {"image": "evalfleet/no-python:1", "resources": {"cpu": "200m", "memory": "1Gi"}},
            "strategy": "UniformProgress",
            "limits": {"maxWorkers": 3},
        }
        place.client.patch(f"{policy_path(place)}/default", {"spec": changed})
        place.patch("edited", maxWorkers=2)
        said = condition(place.wait_for("edited", "RunOutdated"), "RunOutdated")
        for part in ("the store", "the worker image", "pod settings", "Secrets"):
            assert part in said["message"]
        assert end(place, "edited", calm) == {PLANNED_WITH}
        assert not (place.folder / "elsewhere").exists()


def test_a_policy_that_is_replaced_by_deleting_it_first_stops_no_worker(place: Bench, calm: dict[str, bytes]) -> None:
    with edited_policy(place), operating(place) as operator:
        begin(place, "replaced", seconds_per_unit=1.5)
        before = [job["metadata"]["name"] for job in worker_jobs(place, "replaced")]
        place.client.delete(f"{policy_path(place)}/default")
        job = place.wait_for("replaced", "Accepted", "False", "PolicyNotFound")
        assert "what runs goes on until" in condition(job, "Accepted")["message"]
        place.patch("replaced", maxWorkers=2)
        known = done_units(place.wait_for("replaced", "Ready", "False", "PolicyNotFound"))
        place.wait("replaced", lambda found: done_units(found) > known)
        assert [job["metadata"]["name"] for job in worker_jobs(place, "replaced")] == before
        operator.end()
        operator.start()  # a fresh operator knows of the run what its ConfigMap holds, and falls back to no default
        place.client.create(policy_path(place), policy(place.folder / "elsewhere"))
        assert end(place, "replaced", calm) == {PLANNED_WITH}


def test_another_default_image_of_the_operator_holds_for_later_runs(place: Bench, calm: dict[str, bytes]) -> None:
    with edited_policy(place):
        spec: Object = {"worker": {"resources": {"cpu": "100m", "memory": "1Gi"}}}
        place.client.patch(f"{policy_path(place)}/default", {"spec": {"worker": {"image": None, **spec["worker"]}}})
        with operating(place, EVALFLEET_WORKER_IMAGE=PLANNED_WITH):
            begin(place, "settings")
        with operating(place, EVALFLEET_WORKER_IMAGE="evalfleet/no-python:1"):
            place.patch("settings", maxWorkers=2)
            assert end(place, "settings", calm) == {PLANNED_WITH}


def test_a_field_of_a_newer_version_ends_nothing_and_the_rollback_goes_on(place: Bench, calm: dict[str, bytes]) -> None:
    """Two builds of the CRD that differ by a field: the operator that does not know it leaves alone what runs."""
    with operating(place) as operator:
        begin(place, "newer")
        try:
            apply_crd(place, newer_crd())
            wait_until(lambda: is_kept(place, "newer", "tomorrow"), "the newer schema is not served")
            operator.end()  # the newer version; what follows is the older one
            operator.start()
            job = place.wait_for("newer", "Accepted", "False", "NotSupported")
            assert "tomorrow" in condition(job, "Accepted")["message"]
            assert not has(job, "Failed")
            assert has(job, "Stalled", reason="NotSupported")
            assert worker_jobs(place, "newer")
        finally:
            install_crds(place.cluster, place.client)
        place.patch("newer", maxWorkers=2)
        assert end(place, "newer", calm) == {PLANNED_WITH}


def newer_crd() -> Object:
    definition: Object = yaml.safe_load((CRDS / "evaluationjobs.evalfleet.io.yaml").read_text("utf-8"))
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["tomorrow"] = {"type": "string"}
    return definition


def apply_crd(place: Bench, definition: Object) -> None:
    path = place.folder / "newer.yaml"
    path.write_text(yaml.safe_dump(definition), "utf-8")
    place.kubectl("apply", "--server-side", "--force-conflicts", "-f", path)


def is_kept(place: Bench, name: str, member: str) -> bool:
    """Whether the API server knows a member of the spec, which it prunes before; it is not served for a moment."""
    try:
        return member in place.patch(name, **{member: "value"})["spec"]
    except ApiError as error:
        if error.status not in (404, 429, 503):
            raise
        return False


def test_suspending_ends_the_plan_pod_too_and_resuming_plans_again(place: Bench) -> None:
    with operating(place):
        place.create("held", evaluations=[{**toy_units(2, 0.1), "python": held()}])
        wait_until(lambda: any("plan" in pod["metadata"]["name"] for pod in running(place, "held")), "no plan pod")
        place.patch("held", suspend=True)
        place.wait_for("held", "Suspended")
        wait_until(lambda: not place.pods("held"), "the plan pod stays")


def held() -> Object:
    """An evaluation that plans for a minute."""
    return {"entrypoint": "toy_evaluation:make", "parameters": {"plan_megabytes": "1"}}


def running(place: Bench, name: str) -> list[Object]:
    return [pod for pod in place.pods(name) if (pod.get("status") or {}).get("phase") == "Running"]


def test_what_a_policy_names_wrongly_ends_no_job(place: Bench) -> None:
    with edited_policy(place):
        place.client.patch(f"{policy_path(place)}/default", {"spec": {"store": {"uri": "file:///one/machine"}}})
        with operating(place, EVALFLEET_ALLOW_FILE_URIS="false"):
            place.create("faulty", model={"uri": "hf://none/needed"})
            job = place.wait_for("faulty", "Accepted", "False", "InvalidUri")
            assert not has(job, "Failed")
        place.client.delete(place.job_path("faulty"))
