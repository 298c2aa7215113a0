"""Machines that fail in every way, on the real control plane: what the job says, its pool, its neighbours, the bill.

All situations run at once in one namespace, so that together they take as long as the slowest.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from admission import add_sidecar, send_to, suspend_jobs
from cluster_client import Client
from kubelet_statuses import LOW_DISK, NO_DEVICES, UNSIGNED, clock, creating, ended, evicted, rejected, running, waiting
from lifecycle import counted, toy_units, worker_jobs
from operator_bench import API, TOY_IMAGE, Bench, bench, condition, has, policy, running_operator, wait_until
from poison import states, steady_pool
from scripted_nodes import TOLERATION, ScriptedNodes, after

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
STARTUP_SECONDS = 3
NAMESPACE, LIMITED = "liveness", "liveness-limited"
SIDECAR = {"name": "aa-proxy", "image": TOY_IMAGE, "command": ["python", "-c", "import time; time.sleep(3600)"]}
SCORES: Object = {
    "runId": "r",
    "worker": "w",
    "state": "Scoring",
    "unitsTotal": 4,
    "unitsDone": 1,
    "requestsTotal": 400,
    "requestsDone": 100,
    "requestsPerSecond": 1.0,
    "tokensPerSecond": 0.0,
    "unitsOwn": 1,
    "requestsOwn": 100,
}


@dataclass(frozen=True)
class Place:
    """A namespace with all situations under way, and the scripted machines that make them."""

    bench: Bench
    limited: Bench
    nodes: ScriptedNodes
    client: Client

    def policy_of(self, name: str) -> Object:
        """A ScalingPolicy of the namespace."""
        return self.client.get(f"{API}/namespaces/{NAMESPACE}/scalingpolicies/{name}")


def scripted_pool(name: str, capacity_type: str = "Spot") -> Object:
    """A pool of scripted machines."""
    selector = {"karpenter.sh/nodepool": name}
    times = {"expectedStartupSeconds": STARTUP_SECONDS, "maxWorkers": 4, "pricePerHour": "1.00"}
    return {"name": name, "capacityType": capacity_type, "nodeSelector": selector, "tolerations": [TOLERATION], **times}


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder: Path = tmp_path_factory.mktemp("liveness")
    with (
        bench(shared_cluster, cluster_client, NAMESPACE, folder) as made,
        bench(shared_cluster, cluster_client, LIMITED, folder) as limited,
        ScriptedNodes(shared_cluster.kubeconfig) as nodes,
    ):
        found = Place(made, limited, nodes, cluster_client)
        make_machines(found)
        interfere(found)
        watched = f"{NAMESPACE},{LIMITED}"
        with running_operator(made, EVALFLEET_WATCH_NAMESPACES=watched):
            begin(found)
            wait_until(lambda: nodes.nodes["gone"].pods_seen >= 1, "no plan pod came to the machine that goes")
            nodes.cut_off("gone")
            yield found


def make_machines(place: Place) -> None:
    add = place.nodes.add
    add("rejects", (after(0, rejected("UnexpectedAdmissionError", NO_DEVICES)),))
    add("gone", (after(0, running),))
    add("ahead", (after(0, running), after(2, ended(1))), pool="ahead", clock=clock(36000))
    add("press", (after(0, running), after(0.5, evicted())), pool="press")
    add("hang", (after(0, creating),), pool="hang")
    add("unsigned", (after(0, waiting("SignatureValidationFailed", UNSIGNED)),), pool="unsigned")
    add("silent", (after(0, running),), pool="silent", progress=lambda: SCORES)


def interfere(place: Place) -> None:
    """What others do to pods and Jobs; in force a moment later."""
    nodes = place.nodes.nodes
    send_to(place.client, NAMESPACE, "finish-rejected-finish-1-", nodes["rejects"])
    send_to(place.client, NAMESPACE, "plan-gone-plan-", nodes["gone"])
    send_to(place.client, NAMESPACE, "bad-w.*", nodes["unsigned"])
    add_sidecar(place.client, NAMESPACE, "beside-", SIDECAR)
    suspend_jobs(place.client, NAMESPACE, "queued-w")
    limit = {"type": "Container", "default": {"cpu": "500m", "memory": "512Mi"}}
    body = {"metadata": {"name": "small"}, "spec": {"limits": [limit]}}
    place.client.create(f"/api/v1/namespaces/{LIMITED}/limitranges", body)
    time.sleep(2.0)  # the API server has no word for it


def begin(place: Place) -> None:
    run = place.bench.folder / "runs"
    pools = {
        "ahead": [scripted_pool("ahead")],
        "press": [scripted_pool("press", "OnDemand")],
        "hang": [scripted_pool("hang"), steady_pool()],
        "unsigned": [scripted_pool("unsigned")],
        "silent": [scripted_pool("silent")],
        "queued": [{**policy(run)["spec"]["pools"][0], "expectedStartupSeconds": STARTUP_SECONDS}],
    }
    for name, members in pools.items():
        body = policy(run, pools=members)
        body["metadata"]["name"] = name
        place.client.create(f"{API}/namespaces/{NAMESPACE}/scalingpolicies", body)
        place.bench.create(name, policyName=name, evaluations=[toy_units(4, 0.2)])
    for name in ("beside", "finish-rejected", "plan-gone", "bad", "good-1", "good-2"):
        place.bench.create(name, evaluations=[toy_units(4, 0.2)])
    place.limited.client.patch(
        f"{API}/namespaces/{LIMITED}/scalingpolicies/default", {"spec": {"worker": {"resources": None}}}
    )
    place.limited.create("refused")


def message(job: Object, kind: str = "WorkersReady") -> str:
    return str(condition(job, kind)["message"])


def test_what_forbids_a_pod_is_said_in_the_api_servers_words(place: Place) -> None:
    job = place.limited.wait_for("refused", "Planned", "Unknown", "ObjectRefused")
    assert "must be less than or equal to cpu limit of 500m" in message(job, "Planned")
    place.client.delete(f"/api/v1/namespaces/{LIMITED}/limitranges/small")


def test_a_sidecar_that_comes_first_and_never_ends_is_nobody(place: Place) -> None:
    place.bench.wait_for("beside", "Succeeded")


def test_neighbours_of_a_broken_job_never_notice(place: Place) -> None:
    for name in ("good-1", "good-2"):
        job = place.bench.wait(name, lambda job: has(job, "Succeeded") or states(job, "Ready", "NoSpotCapacity"))
        assert has(job, "Succeeded")
    job = place.bench.wait("bad", lambda job: UNSIGNED in message_if_there(job))
    assert has(job, "WorkersReady", "False", "WaitingForImage")
    assert "estimatedCompletionTime" not in job["status"]["progress"]
    pools = place.policy_of("default")["status"]["pools"]
    assert not any("coolDownUntil" in pool for pool in pools)


def message_if_there(job: Object, kind: str = "WorkersReady") -> str:
    found = [c["message"] for c in (job.get("status") or {}).get("conditions") or [] if c["type"] == kind]
    return str(found[0]) if found else ""


def test_a_job_that_no_node_mends_holds_no_worker_while_it_waits_and_goes_on_when_mended(place: Place) -> None:
    wait_until(lambda: place.nodes.nodes["unsigned"].pods_seen >= 1, "no worker came")
    place.bench.wait("unsigned", lambda job: UNSIGNED in message_if_there(job))
    wait_until(lambda: not worker_jobs(place.bench, "unsigned"), "its worker holds the pool")
    job = place.client.get(place.bench.job_path("unsigned"))
    assert "tried again at" in message(job)
    place.nodes.nodes["unsigned"].script = (after(0, running),)
    place.bench.wait_for("unsigned", "WorkersReady")


def test_a_pod_that_hangs_is_tried_in_another_pool_and_nothing_is_foreseen_meanwhile(place: Place) -> None:
    foreseen = []

    def ended_well(job: Object) -> bool:
        status = job.get("status") or {}
        if "estimatedCompletionTime" in (status.get("progress") or {}) and not status["workers"]["ready"]:
            foreseen.append((job["metadata"]["resourceVersion"], message_if_there(job)))
        return has(job, "Succeeded")

    job = place.bench.wait("hang", ended_well)
    assert len(foreseen) <= 60, foreseen  # only within the start-up that was planned
    assert place.nodes.nodes["hang"].pods_seen == 1
    assert job["status"]["workers"]["failures"] == 0


def test_a_rejected_finish_pod_loses_no_scored_job(place: Place) -> None:
    job = place.bench.wait_for("finish-rejected", "Succeeded")
    assert place.nodes.nodes["rejects"].pods_seen >= 1
    assert job["status"]["samples"]["scored"] == 400


def test_a_plan_pod_on_a_machine_that_does_not_answer_is_replaced(place: Place) -> None:
    assert not place.nodes.nodes["gone"].is_reachable
    place.bench.wait_for("plan-gone", "Succeeded")
    place.nodes.remove("gone")


def test_times_of_a_clock_that_is_ahead_are_neither_billed_nor_waited_for(place: Place) -> None:
    node = place.nodes.nodes["ahead"]
    place.bench.wait("ahead", lambda job: counted(job, "failures") >= 1)
    node.script = (after(0, running),)
    wait_until(lambda: node.pods_seen >= 2, "its retry waits until the clock of its node is reached")
    job = place.bench.wait("ahead", lambda job: "spent" in ((job.get("status") or {}).get("cost") or {}))
    assert Decimal(job["status"]["cost"]["spent"]) < Decimal("0.1")
    assert Decimal(place.policy_of("ahead")["status"]["cost"]["spentDay"]) < Decimal("0.1")


def test_evictions_are_no_loop_and_end_in_the_request_to_raise(place: Place) -> None:
    job = place.bench.wait("press", lambda job: "ephemeralStorage" in message_if_there(job))
    assert states(job, "WorkersReady", "Evicted")
    assert LOW_DISK.strip() in message(job)
    assert re.search(r"evicted \d times for lack of ephemeral-storage", message(job))
    assert has(job, "Stalled")
    assert counted(job, "failures") == 0
    assert place.nodes.nodes["press"].pods_seen <= 8  # pauses of 10, 20, 40, ... s: in ten minutes, whoever looks
    assert Decimal(job["status"]["cost"]["spent"]) < Decimal("0.05")


def test_a_job_in_the_queue_of_another_controller_keeps_its_place(place: Place) -> None:
    place.bench.wait("queued", lambda job: has(job, "WorkersReady", "False", "SuspendedElsewhere"))
    (first,) = worker_jobs(place.bench, "queued")
    time.sleep(3 * STARTUP_SECONDS)  # longer than a pool may take to give a node
    (still,) = worker_jobs(place.bench, "queued")
    assert still["metadata"]["uid"] == first["metadata"]["uid"]
    assert not any("coolDownUntil" in pool for pool in place.policy_of("queued")["status"]["pools"])
    path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{first['metadata']['name']}"
    place.client.patch(path, {"spec": {"suspend": False}})
    place.bench.wait_for("queued", "Succeeded")


def test_a_worker_that_does_not_move_is_replaced(place: Place) -> None:
    node = place.nodes.nodes["silent"]
    wait_until(lambda: node.pods_seen >= 2, "a silent worker stays")
    job = place.client.get(place.bench.job_path("silent"))
    assert counted(job, "failures") == 0


def test_what_was_forbidden_goes_on_when_it_is_allowed(place: Place) -> None:
    place.limited.wait_for("refused", "Succeeded")
