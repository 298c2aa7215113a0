"""When an EvaluationJob must be finished: its own deadline or its policy's default, suspended time excluded. Pure."""

from datetime import datetime, timedelta

from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.job.state import JobState


def deadline_of(state: JobState) -> datetime | None:
    """The deadline, None without one."""
    if state.job is None:
        return None
    sla = state.job.spec.sla
    if sla is not None and sla.deadline_time is not None:
        return sla.deadline_time
    seconds = sla.completion_seconds if sla is not None else None
    if seconds is None and state.policy is not None and state.policy.spec.sla is not None:
        seconds = state.policy.spec.sla.default_completion_seconds
    return None if seconds is None else state.created + timedelta(seconds=seconds + suspended_seconds(state))


def suspended_seconds(state: JobState) -> float:
    """Seconds that the job was suspended, the running suspension included; never longer than it exists."""
    age = max(0.0, (state.now - state.created).total_seconds())
    before = min(age, float((state.status.get("time") or {}).get("suspendedSeconds") or 0))
    condition = cond.find(state.status.get("conditions") or [], "Suspended")
    if condition is None:
        return before
    since = datetime.fromisoformat(str(condition["lastTransitionTime"]))
    return min(age, before + max(0.0, (state.now - since).total_seconds()))
