"""A cloud takes a node back: taint, eviction with the DisruptionTarget condition, power off, Node object removed."""

import asyncio
import logging
from dataclasses import dataclass

from evalfleet.kube.client import STRATEGIC, UNREACHABLE, KubeError, Object, pods_path
from evalfleet.local.cluster.hostnode.fleet import HostNodeFleet
from evalfleet.local.cluster.hostnode.node import HostNode

log = logging.getLogger(__name__)

# What Karpenter puts on a node it is about to drain for a spot interruption.
DISRUPTED_TAINT = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
_POLL_SECONDS = 0.1
_TOO_MANY_REQUESTS = 429
_TERMINAL = ("Succeeded", "Failed")


@dataclass(frozen=True)
class Reclaimed:
    """What a reclaim did."""

    node: str
    evicted: int
    killed: int
    seconds: float


async def reclaim(fleet: HostNodeFleet, node: HostNode, notice_seconds: float) -> Reclaimed:
    """Reclaim `node`. With no notice it vanishes as a lost machine does: nothing is tainted, evicted or reported.

    With notice the node goes as soon as its pods have ended, at the latest when the notice is over; pods that still
    run then are killed and their objects stay for the pod garbage collection, as in a cloud.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    node.reclaiming = True
    evicted: set[str] = set()
    if notice_seconds > 0:
        await _taint(fleet, node)
        while loop.time() < start + notice_seconds:
            await _evict_all(fleet, node, evicted, max(0, int(start + notice_seconds - loop.time())))
            if node.is_idle:
                break
            await asyncio.sleep(_POLL_SECONDS)
    killed = sum(not runner.finished.is_set() for runner in node.pods.values())
    await fleet.remove(node)
    return Reclaimed(node.name, len(evicted), killed, round(loop.time() - start, 3))


async def _taint(fleet: HostNodeFleet, node: HostNode) -> None:
    path = f"/api/v1/nodes/{node.name}"
    try:
        await fleet.kube.patch(path, {"spec": {"taints": [DISRUPTED_TAINT]}}, STRATEGIC)
    except (*UNREACHABLE, KubeError) as error:
        log.warning("taint %s: %s", node.name, error)


async def _evict_all(fleet: HostNodeFleet, node: HostNode, evicted: set[str], left_seconds: int) -> None:
    for pod in list(fleet.pods.values()):
        uid = pod["metadata"]["uid"]
        ended = pod.get("status", {}).get("phase") in _TERMINAL
        if pod["spec"].get("nodeName") != node.name or ended or uid in evicted:
            continue
        if await _evict(fleet, pod, left_seconds):
            evicted.add(uid)


async def _evict(fleet: HostNodeFleet, pod: Object, left_seconds: int) -> bool:
    metadata = pod["metadata"]
    grace = min(left_seconds, int(pod["spec"].get("terminationGracePeriodSeconds", 30)))
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "deleteOptions": {"gracePeriodSeconds": grace, "preconditions": {"uid": metadata["uid"]}},
    }
    try:
        await fleet.kube.create(pods_path(metadata["namespace"], metadata["name"], "eviction"), body)
    except KubeError as error:
        if error.status == _TOO_MANY_REQUESTS:  # a PodDisruptionBudget; the machine goes anyway
            return False
        log.info("evict %s: %s", metadata["name"], error)
    except UNREACHABLE:
        return False
    return True
