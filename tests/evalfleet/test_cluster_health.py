"""Readiness of a leader and of its standby on a real control plane, and while its API server is away."""

import os
import signal
from collections.abc import Iterator

import pytest
from cluster_client import Client
from operator_bench import Bench, bench, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "health", tmp_path_factory.mktemp("health")) as made:
        yield made


def holder(place: Bench) -> str:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{place.namespace}/leases/evalfleet-operator"
    lease = place.client.find(path) or {"spec": {}}
    return str(lease["spec"].get("holderIdentity") or "")


def test_a_leader_and_its_standby_are_both_ready(place: Bench) -> None:
    with running_operator(place, EVALFLEET_IDENTITY="first") as first:
        first.wait_for("/readyz", 200)
        assert holder(place) == "first"
        with running_operator(place, EVALFLEET_IDENTITY="second") as second:
            second.wait_for("/readyz", 200)
            assert holder(place) == "first"
            assert first.end(signal.SIGTERM) == 0
            wait_until(lambda: holder(place) == "second", "the standby never led")
            second.wait_for("/readyz", 200)


@pytest.mark.slow
def test_nobody_is_ready_while_the_api_server_is_away(place: Bench) -> None:
    with running_operator(place, EVALFLEET_IDENTITY="a") as leader:
        wait_until(lambda: holder(place) == "a", "nobody leads")  # a Lease of whoever was killed before runs out first
        leader.wait_for("/readyz", 200)
        with running_operator(place, EVALFLEET_IDENTITY="b") as standby:
            standby.wait_for("/readyz", 200)
            pid = int(place.cluster.status()["servers"]["kube-apiserver"])
            os.kill(pid, signal.SIGSTOP)
            try:
                standby.wait_for("/readyz", 503)
                assert standby.answers("/healthz") == 200
                assert leader.process is not None
                assert leader.process.wait(60) == 1  # leadership is lost: a fresh process begins anew
            finally:
                os.kill(pid, signal.SIGCONT)
            standby.wait_for("/readyz", 200)
            wait_until(lambda: holder(place) == "b", "the standby never led")
