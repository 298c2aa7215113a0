"""The operator is away, or the API server is: work goes on, and whoever comes back finds everything."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster_client import Client
from lifecycle import done_units, is_finished, samples, toy_units, wait_for_workers, worker_jobs
from operator_bench import Bench, OperatorProcess, bench, has, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "absence", tmp_path_factory.mktemp("absence")) as made:
        yield made


def test_what_was_applied_before_the_operator_began_is_run_by_it(place: Bench) -> None:
    names = ("early-1", "early-2")
    for name in names:
        place.create(name)
    with running_operator(place):
        for name in names:
            assert place.wait_for(name, "Succeeded")["status"]["samples"]["scored"] == 6


@pytest.mark.parametrize("removed", [False, True], ids=["worker-jobs-left", "worker-jobs-gone"])
def test_a_run_scored_while_the_operator_was_away_is_completed_from_what_it_finds(place: Bench, removed: bool) -> None:
    name = f"alone-{removed}".lower()
    with running_operator(place) as operator:
        place.create(name, evaluations=[toy_units(8, 0.5)], maxWorkers=2)
        wait_until(lambda: len(worker_jobs(place, name)) == 2 if created(place, name) else False, "no workers")
        operator.end(signal.SIGKILL)
    wait_until(lambda: all(map(is_finished, worker_jobs(place, name))), "workers do not finish without the operator")
    before = place.client.get(place.job_path(name))
    assert not has(before, "Succeeded")
    assert done_units(before) < 8
    if removed:
        for job in worker_jobs(place, name):
            place.client.delete(
                f"/apis/batch/v1/namespaces/{place.namespace}/jobs/{job['metadata']['name']}",
                propagationPolicy="Background",
            )
        wait_until(lambda: not worker_jobs(place, name), "worker Jobs stay")
    with running_operator(place):
        after = place.wait_for(name, "Succeeded")
    assert after["status"]["samples"] == {"planned": 800, "scored": 800, "executedTwice": 0, "mismatched": 0}
    assert after["status"]["progress"]["percent"] == 100


def created(place: Bench, name: str) -> bool:
    return place.client.find(place.job_path(name)) is not None


def test_watches_recover_from_a_restart_of_the_api_server_and_nothing_is_lost(place: Bench) -> None:
    with running_operator(place, EVALFLEET_LEADER_ELECTION="false") as operator:
        run_through_a_restart(place, "restart")
        # Events are seen again, not only listings.
        place.create("afterwards")
        place.wait_for("afterwards", "Succeeded")
        assert operator.process is not None
        assert operator.process.poll() is None


@pytest.mark.slow
def test_a_leader_that_loses_its_lease_with_the_api_server_ends_and_its_successor_goes_on(place: Bench) -> None:
    with running_operator(place) as operator:
        holder = f"/apis/coordination.k8s.io/v1/namespaces/{place.namespace}/leases/evalfleet-operator"
        place.client.wait(holder, lambda lease: bool(lease and lease["spec"].get("holderIdentity")))
        with kept_running(operator) as ends:
            run_through_a_restart(place, "deposed", down_seconds=15)
        assert ends == [1]


def run_through_a_restart(place: Bench, name: str, down_seconds: float = 2) -> None:
    """An evaluation during which the API server restarts has the samples of one that nothing happened to."""
    place.create(f"{name}-calm", evaluations=[toy_units(24, 0.05)])
    place.create(name, evaluations=[toy_units(24, 0.5)], maxWorkers=2)
    wait_for_workers(place, name, 2)
    place.wait(name, lambda job: done_units(job) >= 1)
    place.cluster.restart_apiserver(down_seconds)
    job = place.wait_for(name, "Succeeded")
    assert samples(job) == samples(place.wait_for(f"{name}-calm", "Succeeded"))
    assert job["status"]["samples"]["executedTwice"] == 0


@contextmanager
def kept_running(operator: OperatorProcess) -> Iterator[list[int]]:
    """Start an operator again when it ends by itself, as a Deployment does; the exit codes seen."""
    ends: list[int] = []
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.2):
            assert operator.process is not None
            code = operator.process.poll()
            if code is not None:
                ends.append(code)
                operator.start()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield ends
    finally:
        over.set()
        keeper.join()
