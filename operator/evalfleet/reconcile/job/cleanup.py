"""What is terminal or being deleted is cleaned up; a deadline that kills; a TTL that deletes."""

from datetime import datetime, timedelta

from evalfleet import limits
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import ORDER, restated
from evalfleet.reconcile.decision import Action, Delete
from evalfleet.reconcile.job.attempts import supersede
from evalfleet.reconcile.job.cost import cost_status
from evalfleet.reconcile.job.deadline import suspended_seconds
from evalfleet.reconcile.job.state import JobState, removal
from evalfleet.reconcile.job.terminal import failed, stamp, waiting
from evalfleet.reconcile.steps import Step


def ended(state: JobState) -> Step:
    """A terminal job keeps its conditions; its children go, and after the TTL the object itself."""
    kept_until = _logs_kept_until(state)
    every = (*(worker.child for worker in state.workers), state.plan, state.finish)
    left = [child for child in every if child.phase is not Phase.MISSING]
    kept = [child for child in left if child.phase is Phase.FAILED and state.now < kept_until]
    children: list[Action] = [removal(state.identity, child) for child in left if child not in kept]
    children += supersede(state).actions
    due = _deletion_due(state)
    if due is not None and due <= state.now and not state.deleting:
        children.append(Delete("EvaluationJob", state.identity.namespace, state.identity.name, state.identity.uid))
    looks = [moment for moment in (due, kept_until if kept else None) if moment is not None]
    wait = min(((moment - state.now).total_seconds() for moment in looks if moment > state.now), default=None)
    words = restated(state.status["conditions"], *ORDER)
    status = {"observedGeneration": state.generation, **cost_status(state)}
    return Step(words, status, tuple(children), halt=True, requeue_seconds=wait)


def deleting(state: JobState) -> Step:
    """A job that is being deleted, and held by somebody's finalizer: nothing of it goes on."""
    if not state.deleting:
        return Step()
    cpu = (child for child in (state.plan, state.finish) if child.phase is not Phase.MISSING)
    children = tuple(removal(state.identity, child) for child in cpu)
    return Step(waiting("Deleting", "it is being deleted: nothing of it goes on"), actions=children, halt=True)


def active_deadline(state: JobState) -> Step:
    """spec.activeDeadlineSeconds: the kill switch, counted from startTime, which begins anew on resuming (batch/v1)."""
    if state.job is None or state.job.spec.suspend:
        return Step()
    if state.is_true("Suspended"):
        time = {**(state.status.get("time") or {}), "suspendedSeconds": round(suspended_seconds(state))}
        status = {"startTime": stamp(state.now), "time": time}
        return Step(waiting("Resumed", "it goes on after its suspension"), status, halt=True, requeue_seconds=0.0)
    seconds = state.job.spec.active_deadline_seconds
    start = parse_time(state.status.get("startTime"))
    if seconds is None or start is None:
        return Step()
    due = start + timedelta(seconds=seconds)
    if state.now < due:
        return Step(requeue_seconds=(due - state.now).total_seconds())
    return failed("DeadlineExceeded", f"activeDeadlineSeconds: {seconds} s have passed since the start", state)


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 time, or None."""
    return datetime.fromisoformat(str(text)) if text else None


def _logs_kept_until(state: JobState) -> datetime:
    """How long failed children stay, so that `kubectl logs` shows what their reports leave out."""
    completed = parse_time(state.status.get("completionTime"))
    return (completed or state.now) + limits.FAILED_KEPT


def _deletion_due(state: JobState) -> datetime | None:
    ttl = state.job.spec.ttl_seconds_after_finished if state.job is not None else None
    completed = parse_time(state.status.get("completionTime"))
    return completed + timedelta(seconds=ttl) if ttl is not None and completed is not None else None
