"""Width edited while workers run, suspension, and neighbours: what is done is kept, and nobody else is disturbed."""

from collections.abc import Iterator

import pytest
from cluster_client import Client
from lifecycle import done_units, running_workers, samples, toy_units, wait_for_workers, worker_jobs
from operator_bench import Bench, bench, has, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("width")
    with bench(shared_cluster, cluster_client, "width", folder) as made, running_operator(made):
        yield made


def uids(pods: list[dict[str, dict[str, str]]]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods}


def test_width_follows_an_edit_up_and_down_and_every_sample_is_counted_once(place: Bench) -> None:
    place.create("calm", evaluations=[toy_units(60, 0.05)])
    place.create("width", evaluations=[toy_units(60, 0.5)], maxWorkers=1)
    first = wait_for_workers(place, "width", 1)
    place.wait("width", lambda job: done_units(job) >= 1)
    place.patch("width", maxWorkers=3)
    three = wait_for_workers(place, "width", 3)
    assert uids(first) < uids(three)
    place.patch("width", maxWorkers=1)
    wait_until(lambda: len(worker_jobs(place, "width")) == 1, "the width never went back to one")
    job = place.wait_for("width", "Succeeded")
    assert job["status"]["workers"].get("preemptions", 0) == 0
    assert samples(job) == samples(place.wait_for("calm", "Succeeded"))


def test_a_suspended_job_keeps_what_is_done_and_goes_on_beside_an_undisturbed_neighbour(place: Bench) -> None:
    place.create("pause", evaluations=[toy_units(40, 0.5)])
    place.create("beside", evaluations=[toy_units(40, 0.5)])
    place.wait("pause", lambda job: done_units(job) >= 1)
    neighbour = wait_for_workers(place, "beside", 1)
    place.patch("pause", suspend=True)
    place.wait_for("pause", "Suspended")
    wait_until(lambda: not running_workers(place, "pause"), "workers of a suspended job run on")
    kept = done_units(place.client.get(place.job_path("pause")))
    at = done_units(place.client.get(place.job_path("beside")))
    place.wait("beside", lambda job: done_units(job) > at)
    assert uids(running_workers(place, "beside")) == uids(neighbour)
    assert not worker_jobs(place, "pause")
    place.patch("pause", suspend=False)
    resumed = place.wait("pause", lambda job: not has(job, "Suspended") and has(job, "WorkersReady"))
    assert done_units(resumed) >= kept >= 1
    beside, pause = place.wait_for("beside", "Succeeded"), place.wait_for("pause", "Succeeded")
    assert samples(pause) == samples(beside)


def test_a_deleted_job_leaves_its_neighbour_undisturbed(place: Bench) -> None:
    place.create("goes", evaluations=[toy_units(200, 0.5)])
    place.create("stays", evaluations=[toy_units(12, 0.5)])
    wait_for_workers(place, "goes", 1)
    neighbour = wait_for_workers(place, "stays", 1)
    place.client.delete(place.job_path("goes"))
    place.wait_until_gone("goes")
    job = place.wait(
        "stays", lambda job: has(job, "Succeeded") or uids(running_workers(place, "stays")) != uids(neighbour)
    )
    done = place.wait_for("stays", "Succeeded")
    assert done["status"]["samples"] == {"planned": 1200, "scored": 1200, "executedTwice": 0, "mismatched": 0}
    assert job["status"]["workers"].get("preemptions", 0) == 0
