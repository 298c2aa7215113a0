"""The part of `status.time` that the operator sees itself: how long worker pods waited for nodes. Pure.

Pods go and take their times with them, so the sum is persisted with the moment up to which bindings are in it. The API
server's stamps are whole seconds: a binding is counted when no other of its second can come any more.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.liveness import bound_at

Object = Mapping[str, Any]


def bindings_of(pods: Iterable[Object]) -> tuple[tuple[datetime, datetime], ...]:
    """When pods were created and bound to a node, of those that have one."""
    bound = ((pod["metadata"].get("creationTimestamp"), bound_at(pod)) for pod in pods)
    return tuple((datetime.fromisoformat(created), at) for created, at in bound if created and at is not None)


def provisioning_time(state: JobState) -> dict[str, Any]:
    """The `time` member of a status, when another worker got its node."""
    time = state.status.get("time") or {}
    counted = _moment(time.get("provisionedUntil")) or state.created - timedelta(seconds=1)
    fresh = [(c, b) for c, b in state.bindings if counted < b <= state.now - limits.BINDING_SETTLED]
    if not fresh:
        return {}
    seconds = sum(max(0.0, (bound - created).total_seconds()) for created, bound in fresh)
    until = stamp(max(bound for _, bound in fresh))
    total = int(time.get("provisioningSeconds") or 0) + round(seconds)
    return {"time": {**time, "provisioningSeconds": total, "provisionedUntil": until}}


def _moment(text: object) -> datetime | None:
    """A moment of a status, which anybody with the right to may have written; None for what is none."""
    with suppress(ValueError):
        moment = datetime.fromisoformat(str(text))
        return moment if moment.tzinfo else None
    return None
