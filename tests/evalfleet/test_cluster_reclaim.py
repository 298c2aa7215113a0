"""Workers die, nodes are reclaimed, the operator is killed: every sample as in an undisturbed run."""

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cluster_client import Client
from lifecycle import (
    QUICK_CLAIMS_IMAGE,
    counted,
    done_units,
    kill_worker,
    rows,
    running_workers,
    samples,
    toy_units,
    wait_for_workers,
)
from operator_bench import Bench, OperatorProcess, bench, has, policy, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
UNITS = 16
SAMPLES = "samples/toy.parquet"


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "reclaim", tmp_path_factory.mktemp("reclaim")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


@pytest.fixture(scope="module")
def undisturbed(place: Bench, operator: OperatorProcess) -> dict[str, bytes]:
    """Samples of the same evaluation where nothing happened."""
    place.create("calm", evaluations=[toy_units(UNITS, 0.1)])
    found = samples(place.wait_for("calm", "Succeeded"))
    assert [row["example"] for row in rows(found[SAMPLES])] == list(range(100 * UNITS))
    return found


def begin(place: Bench, name: str, workers: int) -> list[Object]:
    """Create a run and return its worker pods when all of them run and units are committed."""
    image = {"image": QUICK_CLAIMS_IMAGE}
    place.create(name, evaluations=[toy_units(UNITS, 0.6)], maxWorkers=workers, worker=image)
    pods = wait_for_workers(place, name, workers)
    place.wait(name, lambda job: done_units(job) >= 1)
    return pods


def test_a_worker_killed_outright_costs_nothing_but_time(place: Bench, undisturbed: dict[str, bytes]) -> None:
    victim = begin(place, "killed", 2)[0]
    kill_worker(place, victim)
    path = f"/api/v1/namespaces/{place.namespace}/pods/{victim['metadata']['name']}"
    dead = place.client.wait(path, lambda pod: not pod or pod["status"]["phase"] == "Failed")
    assert dead == {} or dead["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    job = place.wait_for("killed", "Succeeded")
    assert samples(job) == undisturbed


def test_a_reclaimed_node_is_no_failure_and_costs_nothing_but_time(place: Bench, undisturbed: dict[str, bytes]) -> None:
    victim = begin(place, "reclaimed", 2)[0]
    place.cluster.reclaim(victim["spec"]["nodeName"], notice_seconds=10)
    job = place.wait_for("reclaimed", "Succeeded")
    assert samples(job) == undisturbed
    assert job["status"]["workers"]["preemptions"] >= 1


def test_workers_of_a_node_that_vanishes_are_replaced_before_anybody_has_found_their_pods_dead(
    place: Bench, operator: OperatorProcess
) -> None:
    place.create("vanished", evaluations=[toy_units(50, 0.6)], maxWorkers=2, worker={"image": QUICK_CLAIMS_IMAGE})
    workers = wait_for_workers(place, "vanished", 2)
    place.wait("vanished", lambda job: done_units(job) >= 1)
    node = workers[0]["spec"]["nodeName"]
    lost = {pod["metadata"]["uid"] for pod in workers if pod["spec"]["nodeName"] == node}
    place.cluster.reclaim(node, notice_seconds=0)
    replaced = wait_for_workers(place, "vanished", 2)
    assert not lost & {pod["metadata"]["uid"] for pod in replaced}
    assert lost <= {pod["metadata"]["uid"] for pod in place.pods("vanished")}  # pod garbage collection takes longer
    job = place.wait_for("vanished", "Succeeded")
    assert [row["example"] for row in rows(samples(job)[SAMPLES])] == list(range(5000))
    assert job["status"]["workers"]["preemptions"] == len(lost)


def test_an_operator_killed_again_and_again_changes_nothing(
    place: Bench, operator: OperatorProcess, undisturbed: dict[str, bytes]
) -> None:
    place.create("leaderless", evaluations=[toy_units(UNITS, 0.3)])
    for reached in ("Accepted", "Planned", "WorkersReady"):
        place.wait_for("leaderless", reached)
        operator.end(signal.SIGKILL)
        operator.start()
    assert samples(place.wait_for("leaderless", "Succeeded")) == undisturbed


@pytest.mark.slow
def test_preemptions_count_on_though_the_operator_that_saw_them_was_killed(
    place: Bench, operator: OperatorProcess
) -> None:
    place.create("counted", evaluations=[toy_units(600, 0.6)], worker={"image": QUICK_CLAIMS_IMAGE})
    taken: set[str] = set()
    for number in (1, 2):
        wait_until_it_leads(place, operator)  # what comes and goes while nobody looks is not counted
        worker = wait_for_another(place, "counted", taken)
        taken.add(worker["metadata"]["uid"])
        place.cluster.reclaim(worker["spec"]["nodeName"], notice_seconds=5)
        place.wait("counted", lambda job, number=number: counted(job, "preemptions") == number)
        operator.end(signal.SIGKILL)
        operator.start()
    workers = place.client.get(place.job_path("counted"))["status"]["workers"]
    assert (workers["preemptions"], workers["failures"]) == (2, 0)
    place.client.delete(place.job_path("counted"))


def wait_until_it_leads(place: Bench, operator: OperatorProcess) -> None:
    assert operator.process is not None
    name = f"-{operator.process.pid}"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{place.namespace}/leases/evalfleet-operator"
    place.client.wait(lease, lambda found: bool(found) and str(found["spec"].get("holderIdentity")).endswith(name))


def wait_for_another(place: Bench, name: str, taken: set[str]) -> Object:
    """A running worker that was not taken away before: one whose node goes runs on while its notice lasts."""
    found: list[Object] = []

    def appeared() -> bool:
        found[:] = [pod for pod in running_workers(place, name) if pod["metadata"]["uid"] not in taken]
        return bool(found)

    wait_until(appeared, f"{name} never had another worker")
    return found[0]


@pytest.mark.slow
def test_six_of_eight_workers_reclaimed_at_once_are_replaced_without_back_off(
    place: Bench, operator: OperatorProcess
) -> None:
    place.cluster.scale_pool("trio", 3, 3)
    try:
        _reclaim_six_of_eight(place)
    finally:
        place.cluster.scale_pool("trio", 0, 0)


def _reclaim_six_of_eight(place: Bench) -> None:
    """Eight workers on three nodes of three places each: two nodes hold three, and go at the same moment."""
    manifest = policy(place.folder / "runs")
    (pool,) = manifest["spec"]["pools"]
    pool |= {"name": "trio", "nodeSelector": {"karpenter.sh/nodepool": "trio"}, "maxWorkers": 8}
    manifest["metadata"]["name"] = "eight"
    place.client.create(place.job_path().replace("evaluationjobs", "scalingpolicies"), manifest)
    place.create("eight", evaluations=[toy_units(1200, 1.0)], policyName="eight", maxWorkers=8)
    before = wait_for_workers(place, "eight", 8)
    crowd = Counter(pod["spec"]["nodeName"] for pod in before).most_common(2)
    assert [count for _, count in crowd] == [3, 3]
    nodes = [name for name, _ in crowd]
    gone = {pod["metadata"]["uid"] for pod in before if pod["spec"]["nodeName"] in nodes}
    with ThreadPoolExecutor(len(nodes)) as at_once:
        list(at_once.map(lambda node: place.cluster.reclaim(node, notice_seconds=10), nodes))
    wait_until(lambda: not gone & {pod["metadata"]["uid"] for pod in place.pods("eight")}, "pods stay")
    after = wait_for_workers(place, "eight", 8)
    kept = {pod["metadata"]["uid"] for pod in before} - gone
    assert kept < {pod["metadata"]["uid"] for pod in after}
    job = place.wait("eight", lambda job: counted(job, "preemptions") >= 6)
    assert not has(job, "Failed")
    place.client.delete(place.job_path("eight"))
    place.wait_until_gone("eight")
