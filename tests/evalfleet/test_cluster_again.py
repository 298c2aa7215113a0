"""A name that is used again at once: the new job is scored by its own spec, whatever is left of the old one."""

from collections.abc import Iterator

import pytest
from cluster_client import Client
from operator_bench import Bench, bench, running_operator, terminal, toy

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "again", tmp_path_factory.mktemp("again")) as made:
        yield made


def test_a_job_that_is_deleted_and_created_again_at_once_is_scored_by_its_own_spec(place: Bench) -> None:
    with running_operator(place):
        place.create("job", evaluations=[toy("t", count="900", seconds="0.1")])
        place.wait_for("job", "Planned")
        for count in ("800", "7"):
            place.client.delete(place.job_path("job"))
            place.create("job", evaluations=[toy("t", count=count)])
        job = place.wait("job", terminal)
        assert job["status"]["samples"]["scored"] == 7, job["status"]
