"""Simulated nodes join a real control plane: thousands of pods without a process."""

import shutil
from typing import Any

import pytest
from cluster_client import Client
from host_pods import job, pod, python, running

from evalfleet.local.cluster import LocalCluster
from evalfleet.local.cluster.binaries import find_binaries

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.skipif(
        not find_binaries(["kwok"]) and shutil.which("go") is None, reason="no KWOK and no Go to build it with"
    ),
]

Object = dict[str, Any]
ON_SIMULATED_NODES = {
    "nodeSelector": {"karpenter.sh/nodepool": "simulated"},
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
}


@pytest.fixture
def simulated(shared_cluster: LocalCluster) -> LocalCluster:
    shared_cluster.simulate_nodes(4)
    return shared_cluster


def test_a_job_of_two_hundred_pods_completes_without_a_process(
    simulated: LocalCluster, cluster_client: Client, namespace: str
) -> None:
    body = job("many", python("no process runs this"), ON_SIMULATED_NODES, parallelism=200, completions=200)
    body["spec"]["template"]["metadata"]["annotations"] = {"evalfleet.io/simulated-duration-ms": "500"}
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    cluster_client.create(path, body)
    found = cluster_client.wait(f"{path}/many", lambda job: job["status"].get("succeeded") == 200, timeout=120)
    assert not found["status"].get("failed")
    assert not any(node["pods"] for node in simulated.status()["nodes"])


def test_pods_run_until_they_are_deleted_and_others_stay_away(
    simulated: LocalCluster, cluster_client: Client, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    cluster_client.create(path, pod("stays", python("x"), **ON_SIMULATED_NODES))
    cluster_client.create(path, pod("real", python("print('a process')")))
    assert cluster_client.wait(f"{path}/stays", running)["spec"]["nodeName"].startswith("simulated-")
    real = cluster_client.wait(f"{path}/real", lambda found: found["status"]["phase"] == "Succeeded")
    assert not real["spec"]["nodeName"].startswith("simulated-")
    cluster_client.delete(f"{path}/stays")
    cluster_client.wait(f"{path}/stays", lambda found: not found)
