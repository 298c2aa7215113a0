"""Machines that vanish: a worker is lost with its Node, not when pod garbage collection finds it (about 45 s later)."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from evalfleet import limits
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError, Listed

log = logging.getLogger(__name__)

NODES = "/api/v1/nodes"
FORBIDDEN = 403


class LostNodes:
    """Names of nodes that were there and are gone. One that was never seen is not lost: it may be news."""

    def __init__(self) -> None:
        self._present: set[str] = set()
        self._lost: dict[str, None] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._lost

    def listed(self, names: set[str]) -> set[str]:
        """Make a full listing the truth; returns what is lost since the last one."""
        lost = self._present - names
        for name in names:
            self.appeared(name)
        for name in lost:
            self.vanished(name)
        return lost

    def appeared(self, name: str) -> None:
        """A node is there."""
        self._present.add(name)
        self._lost.pop(name, None)

    def vanished(self, name: str) -> None:
        """A node is gone; the oldest losses are forgotten in the end."""
        self._present.discard(name)
        self._lost[name] = None
        if len(self._lost) > limits.LOST_NODES:
            del self._lost[next(iter(self._lost))]


async def follow_nodes(kube: Kube, nodes: LostNodes, on_loss: Callable[[set[str]], None]) -> None:
    """Keep `nodes` for ever and tell which are lost; without the right to list nodes, only say so."""
    if not await _may_list(kube):
        log.warning("nodes cannot be listed: a machine that vanishes is noticed when its pods are removed")
        await asyncio.Event().wait()
    async for change in kube.watch(NODES, metadata_only=True):
        if isinstance(change, Listed):
            lost = nodes.listed({_name(node) for node in change.objects})
        elif change.gone:
            lost = {_name(change.object)}
            nodes.vanished(_name(change.object))
        else:
            lost = set()
            nodes.appeared(_name(change.object))
        if lost:
            on_loss(lost)


def without_machine(pod: Mapping[str, Any], nodes: LostNodes) -> Mapping[str, Any]:
    """The pod, marked as taken away if its node is lost and nobody has said so yet."""
    status = pod.get("status") or {}
    over = status.get("phase") in ("Succeeded", "Failed")
    if over or str((pod.get("spec") or {}).get("nodeName") or "") not in nodes:
        return pod
    condition = {"type": "DisruptionTarget", "status": "True", "reason": "NodeGone"}
    return {**pod, "status": {**status, "conditions": [*(status.get("conditions") or []), condition]}}


async def _may_list(kube: Kube) -> bool:
    try:
        await kube.get_metadata(NODES, limit="1")
    except KubeError as error:
        return error.status != FORBIDDEN
    except UNREACHABLE:
        pass
    return True


def _name(node: Mapping[str, Any]) -> str:
    return str(node["metadata"]["name"])
