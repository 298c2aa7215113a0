"""Step 0 and last: what is terminal is cleaned up; a deadline that kills; a TTL that deletes."""

from datetime import datetime, timedelta
from typing import Any

from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import ABNORMAL_TRUE, Condition, find, true
from evalfleet.reconcile.decision import Action, Delete
from evalfleet.reconcile.job.cost import cost_status
from evalfleet.reconcile.job.deadline import suspended_seconds
from evalfleet.reconcile.job.terminal import failed, stamp
from evalfleet.reconcile.job.world import World
from evalfleet.reconcile.steps import Step


def ended(world: World) -> Step:
    """A terminal job keeps its conditions; its children go, and after the TTL the object itself."""
    if not world.terminal:
        return Step()
    namespace = world.identity.namespace
    children: list[Action] = [
        Delete("Job", namespace, child.name)
        for child in (*(worker.child for worker in world.workers), world.plan, world.finish)
        if child.phase is not Phase.MISSING
    ]
    due = _deletion_due(world)
    if due is not None and due <= world.now:
        children.append(Delete("EvaluationJob", namespace, world.identity.name, world.identity.uid))
    wait = (due - world.now).total_seconds() if due is not None and due > world.now else None
    conditions, status = _same_for_this_generation(world)
    return Step(conditions, {**status, **cost_status(world)}, tuple(children), halt=True, requeue_seconds=wait)


def active_deadline(world: World) -> Step:
    """spec.activeDeadlineSeconds: the kill switch, counted from startTime, which begins anew on resuming (batch/v1)."""
    if world.job is None or world.job.spec.suspend:
        return Step()
    if world.is_true("Suspended"):
        time = {**(world.status.get("time") or {}), "suspendedSeconds": round(suspended_seconds(world))}
        return Step(status={"startTime": stamp(world.now), "time": time}, halt=True, requeue_seconds=0.0)
    seconds = world.job.spec.active_deadline_seconds
    start = parse_time(world.status.get("startTime"))
    if seconds is None or start is None:
        return Step()
    due = start + timedelta(seconds=seconds)
    if world.now < due:
        return Step(requeue_seconds=(due - world.now).total_seconds())
    return failed("DeadlineExceeded", f"activeDeadlineSeconds: {seconds} s have passed since the start", world)


def _same_for_this_generation(world: World) -> tuple[tuple[Condition, ...], dict[str, Any]]:
    """An edit of a terminal job changes nothing, but whoever waits (kstatus, kubectl) must see that it was read."""
    if world.status.get("observedGeneration") == world.generation:
        return (), {}
    known = world.status.get("conditions") or []
    abnormal = (find(known, kind) for kind in ABNORMAL_TRUE)
    held = tuple(true(str(c["type"]), str(c["reason"]), str(c["message"])) for c in abnormal if c is not None)
    return held, {"observedGeneration": world.generation}


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 time, or None."""
    return datetime.fromisoformat(str(text)) if text else None


def _deletion_due(world: World) -> datetime | None:
    ttl = world.job.spec.ttl_seconds_after_finished if world.job is not None else None
    completed = parse_time(world.status.get("completionTime"))
    return completed + timedelta(seconds=ttl) if ttl is not None and completed is not None else None
