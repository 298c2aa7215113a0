"""When an EvaluationJob must be finished: its own deadline or its policy's default, suspended time excluded. Pure."""

from datetime import datetime, timedelta

from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.job.world import World


def deadline_of(world: World) -> datetime | None:
    """The deadline, None without one."""
    if world.job is None:
        return None
    sla = world.job.spec.sla
    if sla is not None and sla.deadline_time is not None:
        return sla.deadline_time
    seconds = sla.completion_seconds if sla is not None else None
    if seconds is None and world.policy is not None and world.policy.spec.sla is not None:
        seconds = world.policy.spec.sla.default_completion_seconds
    return None if seconds is None else world.created + timedelta(seconds=seconds + suspended_seconds(world))


def suspended_seconds(world: World) -> float:
    """Seconds that the job was suspended, the running suspension included; never longer than it exists."""
    age = max(0.0, (world.now - world.created).total_seconds())
    before = min(age, float((world.status.get("time") or {}).get("suspendedSeconds") or 0))
    condition = cond.find(world.status.get("conditions") or [], "Suspended")
    if condition is None:
        return before
    since = datetime.fromisoformat(str(condition["lastTransitionTime"]))
    return min(age, before + max(0.0, (world.now - since).total_seconds()))
