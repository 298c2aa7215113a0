"""Crashes of workers are remembered though their Jobs and the operator that saw them are gone."""

import signal
from collections.abc import Iterator

import pytest
from cluster_client import Client
from lifecycle import QUICK_CLAIMS_IMAGE, counted, kill_worker, toy_units, wait_for_workers, worker_jobs
from operator_bench import Bench, OperatorProcess, bench, condition, has, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "backoff", tmp_path_factory.mktemp("backoff")) as made:
        yield made


@pytest.fixture
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


def test_a_crash_counts_though_its_job_was_removed_and_the_operator_began_anew(
    place: Bench, operator: OperatorProcess
) -> None:
    work = toy_units(200, 0.5)
    place.create("crashes", evaluations=[work], backoffLimit=1, worker={"image": QUICK_CLAIMS_IMAGE})
    (first,) = wait_for_workers(place, "crashes", 1)
    kill_worker(place, first)
    place.wait("crashes", lambda job: counted(job, "failures") == 1)
    place.patch("crashes", suspend=True)
    wait_until(lambda: not worker_jobs(place, "crashes"), "a suspended job keeps its workers")
    operator.end(signal.SIGKILL)
    operator.start()
    place.patch("crashes", suspend=False)
    (second,) = wait_for_workers(place, "crashes", 1)
    assert not has(place.client.get(place.job_path("crashes")), "Failed")
    kill_worker(place, second)
    job = place.wait_for("crashes", "Failed")
    assert condition(job, "Failed")["reason"] == "BackoffLimitExceeded"
    assert job["status"]["workers"]["failures"] == 2
