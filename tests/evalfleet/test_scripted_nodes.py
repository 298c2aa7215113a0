"""Scripted nodes on the real control plane: what their pods show is what a kubelet would have written."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import Client
from host_pods import IMAGE, pod
from kubelet_statuses import NO_DEVICES, UNSIGNED, clock, creating, ended, evicted, rejected, running, waiting
from scripted_nodes import TOLERATION, ScriptedNode, ScriptedNodes, after

from evalfleet.local.cluster import LocalCluster

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
WORKER = {"name": "worker", "image": IMAGE}


@pytest.fixture(scope="module")
def nodes(shared_cluster: LocalCluster) -> Iterator[ScriptedNodes]:
    with ScriptedNodes(shared_cluster.kubeconfig) as made:
        yield made


def put(client: Client, namespace: str, node: ScriptedNode, *containers: Object) -> str:
    """A pod on a scripted node; returns its path."""
    selector = {"kubernetes.io/hostname": node.name}
    spec = {"nodeSelector": selector, "tolerations": [TOLERATION]}
    path = f"/api/v1/namespaces/{namespace}/pods"
    client.create(path, pod(f"on-{node.name}", *(containers or (WORKER,)), **spec))
    return f"{path}/on-{node.name}"


def state(found: Object, name: str = "worker") -> Object:
    statuses = (found.get("status") or {}).get("containerStatuses") or []
    return next((status["state"] for status in statuses if status["name"] == name), {})


def test_a_script_is_played_in_its_order_and_the_scheduler_keeps_others_away(
    nodes: ScriptedNodes, cluster_client: Client, namespace: str
) -> None:
    node = nodes.add("played", (after(0, creating), after(1, running), after(2, evicted())))
    path = put(cluster_client, namespace, node)
    cluster_client.create(f"/api/v1/namespaces/{namespace}/pods", pod("elsewhere", WORKER))
    cluster_client.wait(path, lambda found: state(found).get("waiting", {}).get("reason") == "ContainerCreating")
    cluster_client.wait(path, lambda found: "running" in state(found) and found["status"]["podIP"] == node.address)
    over = cluster_client.wait(path, lambda found: found["status"]["phase"] == "Failed")
    assert over["status"]["reason"] == "Evicted"
    assert {c["type"] for c in over["status"]["conditions"]} >= {"DisruptionTarget", "PodScheduled"}
    assert node.pods_seen == 1
    cluster_client.delete(path)
    cluster_client.wait(path, lambda found: not found)


def test_a_kubelet_rejects_refuses_and_lets_sidecars_live(
    nodes: ScriptedNodes, cluster_client: Client, namespace: str
) -> None:
    sidecar = {"name": "aa-proxy", "image": IMAGE}
    rejects = nodes.add("rejects", (after(0, rejected("UnexpectedAdmissionError", NO_DEVICES)),))
    unsigned = nodes.add("unsigned", (after(0, waiting("SignatureValidationFailed", UNSIGNED)),))
    ahead = nodes.add("ahead", (after(0, running), after(0.5, ended(0, others_run=True))), clock=clock(36000))
    paths = [put(cluster_client, namespace, node) for node in (rejects, unsigned)]
    paths.append(put(cluster_client, namespace, ahead, sidecar, WORKER))
    first = cluster_client.wait(paths[0], lambda found: found["status"]["phase"] == "Failed")
    assert (first["status"]["reason"], first["status"].get("containerStatuses")) == ("UnexpectedAdmissionError", None)
    second = cluster_client.wait(paths[1], lambda found: bool(state(found)))
    assert state(second)["waiting"]["message"] == UNSIGNED
    third = cluster_client.wait(paths[2], lambda found: "terminated" in state(found))
    assert third["status"]["phase"] == "Running"
    assert [one["name"] for one in third["status"]["containerStatuses"]] == ["aa-proxy", "worker"]
    assert state(third)["terminated"]["finishedAt"] > clock(30000)(0)


def test_pods_of_a_node_that_is_cut_off_stay_as_they_were(
    nodes: ScriptedNodes, cluster_client: Client, namespace: str
) -> None:
    node = nodes.add("cut-off", (after(0, running),))
    path = put(cluster_client, namespace, node)
    cluster_client.wait(path, lambda found: "running" in state(found))
    node.is_reachable = False
    cluster_client.delete(path)
    found = cluster_client.wait(path, lambda found: "deletionTimestamp" in found.get("metadata", {}))
    assert "running" in state(found)
    node.is_reachable = True
    cluster_client.wait(path, lambda found: not found)
