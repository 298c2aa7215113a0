"""Spot nodes come, are taken back and are replaced; Jobs go on as the Job controller promises."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_client import Client
from host_pods import ended, job, pod, python, running

from evalfleet.local.cluster import LocalCluster, Pool, local_cluster
from evalfleet.local.cluster.control import ControlError

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
JOBS = "/apis/batch/v1/namespaces/default/jobs"
POOLS = (
    Pool("kept", capacity_type="spot", count=1),
    Pool("zero", capacity_type="on-demand", count=0, max_count=1, startup_seconds=1.0, idle_seconds=5.0),
    Pool("tainted", count=0, max_count=1, labels={"tier": "gold"}, taints=("dedicated=eval:NoSchedule",)),
    Pool("pair", capacity_type="spot", count=2),
)
DISRUPTIONS_DO_NOT_COUNT = {
    "podReplacementPolicy": "Failed",
    "backoffLimit": 0,
    "podFailurePolicy": {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [3]}},
        ]
    },
}


@pytest.fixture(scope="module")
def cluster(control_plane_programs: None) -> Iterator[LocalCluster]:
    with local_cluster(POOLS) as started:
        yield started


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Client:
    client = Client(cluster.kubeconfig)
    client.wait("/api/v1/namespaces/default/serviceaccounts/default", bool)
    return client


def on(pool: str) -> Object:
    return {"nodeSelector": {"karpenter.sh/nodepool": pool}}


def pods_of(client: Client, name: str) -> list[Object]:
    return list(client.get(f"{PODS}?labelSelector=app={name}")["items"])


def node_of(client: Client, name: str) -> str:
    return str(client.wait(f"{PODS}/{name}", running)["spec"]["nodeName"])


def has_disruption_target(found: Object) -> bool:
    conditions = found.get("status", {}).get("conditions") or []
    return any(item["type"] == "DisruptionTarget" and item["status"] == "True" for item in conditions)


SLEEPER = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); time.sleep(600)"


def test_a_job_whose_node_is_reclaimed_gets_a_new_pod_and_no_failure(cluster: LocalCluster, client: Client) -> None:
    code = f"import os, sys\nif os.path.exists(sys.argv[1]): sys.exit(0)\nopen(sys.argv[1], 'w')\n{SLEEPER}"
    mark = cluster.folder / "first-run"
    container = python(code, args=[str(mark)])
    client.create(JOBS, job("moved", container, on("kept"), **DISRUPTIONS_DO_NOT_COUNT))
    client.wait(f"{PODS}?labelSelector=app=moved", lambda found: bool(found["items"]) and running(found["items"][0]))
    first = pods_of(client, "moved")[0]
    client.wait(f"{PODS}/{first['metadata']['name']}", lambda _: mark.exists())
    outcome = cluster.reclaim(first["spec"]["nodeName"], notice_seconds=20)
    assert (outcome["evicted"], outcome["killed"]) == (1, 0)
    assert client.find(f"/api/v1/nodes/{first['spec']['nodeName']}") is None
    finished = client.wait(f"{JOBS}/moved", lambda found: found["status"].get("succeeded") == 1)
    # The eviction counts in no back-off: with backoffLimit 0 one counted failure would have ended the Job.
    assert not any(item["type"] == "Failed" for item in finished["status"].get("conditions") or [])
    assert pods_of(client, "moved")[0]["spec"]["nodeName"] != first["spec"]["nodeName"]


def test_an_evicted_pod_ends_with_the_condition_and_the_exit_code(cluster: LocalCluster, client: Client) -> None:
    body = pod("noticed", python(SLEEPER), **on("kept"))
    body["metadata"]["finalizers"] = ["evalfleet.io/test"]
    client.create(PODS, body)
    cluster.reclaim(node_of(client, "noticed"), notice_seconds=20)
    found = client.get(f"{PODS}/noticed")
    assert has_disruption_target(found)
    assert found["status"]["phase"] == "Failed"
    client.patch(f"{PODS}/noticed", {"metadata": {"finalizers": None}})


def test_a_pod_that_ignores_the_notice_is_killed_at_its_end(cluster: LocalCluster, client: Client) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    client.create(PODS, pod("deaf", python(deaf), **on("kept"), terminationGracePeriodSeconds=300))
    node = node_of(client, "deaf")
    client.wait_for_text(f"{PODS}/deaf/log", "deaf")
    outcome = cluster.reclaim(node, notice_seconds=2)
    assert outcome["seconds"] >= 1
    assert cluster.pod_pids("deaf") == {}
    assert client.find(f"/api/v1/nodes/{node}") is None


def test_a_node_may_vanish_without_notice(cluster: LocalCluster, client: Client) -> None:
    client.create(PODS, pod("surprised", python("import time; time.sleep(600)"), **on("kept")))
    node = node_of(client, "surprised")
    assert cluster.reclaim(node, notice_seconds=0) | {"seconds": 0} == {
        "node": node,
        "evicted": 0,
        "killed": 1,
        "seconds": 0,
    }
    # Nobody reported it: the object says Running until the pod garbage collection finds out (about 45 s).
    assert client.get(f"{PODS}/surprised")["status"]["phase"] == "Running"
    client.delete(f"{PODS}/surprised", gracePeriodSeconds=0)


def test_deleting_the_node_object_ends_the_machine_and_the_pool_replaces_it(
    cluster: LocalCluster, client: Client
) -> None:
    client.create(PODS, pod("orphan", python("import time; time.sleep(600)"), **on("kept")))
    node = node_of(client, "orphan")
    pid = cluster.pod_pids("orphan")["main"]
    client.delete(f"/api/v1/nodes/{node}")
    client.wait(f"{PODS}/orphan", lambda _: not Path(f"/proc/{pid}").exists())
    client.wait("/api/v1/nodes", lambda _: any(n["pool"] == "kept" and n["name"] != node for n in nodes(cluster)))
    assert node not in {n["name"] for n in nodes(cluster)}
    client.delete(f"{PODS}/orphan", gracePeriodSeconds=0)


def nodes(cluster: LocalCluster) -> list[Object]:
    return list(cluster.status()["nodes"])


def test_an_on_demand_pool_starts_at_zero_follows_pending_pods_and_returns_to_zero(
    cluster: LocalCluster, client: Client
) -> None:
    def count() -> int:
        return sum(node["pool"] == "zero" for node in cluster.status()["nodes"])

    assert count() == 0
    resources = {"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}}
    client.create(PODS, pod("needs-gpu", python("pass", resources=resources), **on("zero")))
    found = client.wait(f"{PODS}/needs-gpu", ended)
    assert found["status"]["phase"] == "Succeeded"
    node = found["spec"]["nodeName"]
    client.wait(f"/api/v1/nodes/{node}", lambda found: not found)
    assert count() == 0


def test_taints_keep_other_pods_away_and_labels_find_the_pool(cluster: LocalCluster, client: Client) -> None:
    selector = {"nodeSelector": {"tier": "gold"}}
    client.create(PODS, pod("intolerant", python("pass"), **selector))
    tolerations = [{"key": "dedicated", "operator": "Equal", "value": "eval", "effect": "NoSchedule"}]
    client.create(PODS, pod("tolerant", python("pass"), **selector, tolerations=tolerations))
    assert client.wait(f"{PODS}/tolerant", ended)["spec"]["nodeName"].startswith("tainted-")
    assert "nodeName" not in client.get(f"{PODS}/intolerant")["spec"]
    client.delete(f"{PODS}/intolerant")


@pytest.mark.slow
def test_six_jobs_on_two_nodes_are_replaced_at_once(cluster: LocalCluster, client: Client) -> None:
    names = [f"worker-{number}" for number in range(6)]
    for name in names:
        client.create(JOBS, job(name, python(SLEEPER), on("pair"), **DISRUPTIONS_DO_NOT_COUNT))

    def up(found: Object) -> bool:
        alive = [item for item in found["items"] if not item["metadata"].get("deletionTimestamp")]
        return len(alive) == 6 and all(map(running, alive))

    selector = f"{PODS}?labelSelector=app+in+({','.join(names)})"
    before = client.wait(selector, up)
    for node in {item["spec"]["nodeName"] for item in before["items"]}:
        cluster.reclaim(node, notice_seconds=20)
    old = {item["metadata"]["uid"] for item in before["items"]}
    after = client.wait(selector, lambda found: up(found) and not old & {i["metadata"]["uid"] for i in found["items"]})
    assert len(after["items"]) == 6
    for name in names:
        client.delete(f"{JOBS}/{name}", propagationPolicy="Background")


def test_a_fatal_exit_code_fails_the_job(cluster: LocalCluster, client: Client) -> None:
    client.create(JOBS, job("fatal", python("raise SystemExit(3)"), on("pair"), **DISRUPTIONS_DO_NOT_COUNT))
    found = client.wait(
        f"{JOBS}/fatal",
        lambda found: any(item["type"] == "Failed" for item in found.get("status", {}).get("conditions") or []),
    )
    assert "PodFailurePolicy" in {item.get("reason") for item in found["status"]["conditions"]}


def test_an_unknown_node_is_refused_with_the_names_of_the_others(cluster: LocalCluster) -> None:
    with pytest.raises(ControlError, match=r"no node 'nowhere'; there are: .*kept-"):
        cluster.reclaim("nowhere")
