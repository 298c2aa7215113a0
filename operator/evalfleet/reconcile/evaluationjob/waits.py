"""The time ledger's part that the operator sees itself: how long worker pods waited for nodes. Pure.

Pods go and take their times with them, so the sum is persisted with the moment up to which bindings are in it. The API
server's stamps are whole seconds: a binding is counted when no other of its second can come any more.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from evalfleet.reconcile.evaluationjob.cleanup import parse_time
from evalfleet.reconcile.evaluationjob.terminal import stamp
from evalfleet.reconcile.evaluationjob.world import World

SETTLED = timedelta(seconds=3)
Object = Mapping[str, Any]


def binding_of(pod: Object) -> tuple[datetime, datetime] | None:
    """When a pod was created and when it was bound to a node; None before that."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            bound = parse_time(condition.get("lastTransitionTime"))
            created = parse_time(pod["metadata"].get("creationTimestamp"))
            return None if bound is None or created is None else (created, bound)
    return None


def bindings_of(pods: Iterable[Object]) -> tuple[tuple[datetime, datetime], ...]:
    """The bindings of those pods that have a node."""
    return tuple(found for pod in pods if (found := binding_of(pod)) is not None)


def provisioning_time(world: World) -> dict[str, Any]:
    """The `time` member of a status, when another worker got its node."""
    time = world.status.get("time") or {}
    counted = parse_time(time.get("provisionedUntil")) or world.created - timedelta(seconds=1)
    fresh = [(c, b) for c, b in world.bindings if counted < b <= world.now - SETTLED]
    if not fresh:
        return {}
    seconds = sum(max(0.0, (bound - created).total_seconds()) for created, bound in fresh)
    until = stamp(max(bound for _, bound in fresh))
    total = int(time.get("provisioningSeconds") or 0) + round(seconds)
    return {"time": {**time, "provisioningSeconds": total, "provisionedUntil": until}}
