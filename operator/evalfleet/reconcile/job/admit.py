"""Step 3: may it run now? The Fleet decides for all jobs of the policy together; this step repeats its words."""

from evalfleet import limits
from evalfleet.reconcile.conditions import false, true, unknown
from evalfleet.reconcile.job.counts import worker_counts
from evalfleet.reconcile.job.run import all_scored
from evalfleet.reconcile.job.terminal import held, waiting, without_estimates
from evalfleet.reconcile.job.world import FleetVerdict, World
from evalfleet.reconcile.steps import Step

BEST_EFFORT = "BestEffort"
"""Reason of Admitted for a job whose deadline nothing guarantees; read back by the next decision."""


def suspend(world: World) -> Step:
    """State Suspended: the Fleet removes the workers, what is done is kept."""
    if world.job is None or not world.job.spec.suspend:
        return Step()
    message = "suspended by spec.suspend; what is done is kept"
    return Step(
        conditions=(
            true("Suspended", "Suspended", message),
            false("Ready", "Suspended", message),
            false("Reconciling", "Suspended", message),
            false("WorkersReady", "Suspended", message),
        ),
        status=_workers(world),
        halt=True,
    )


def admit(world: World) -> Step:
    """State Admitted in the Fleet's words."""
    if world.planned_units == 0:
        return Step((true("Admitted", "AllCached", "nothing is left to score"),))
    if all_scored(world):  # perhaps while the operator was away: the Fleet has nothing to say about it any more
        return Step((true("Admitted", "Scored", "everything is scored"),))
    if world.fleet is None:
        message = "the fleet has not decided yet"
        return Step((unknown("Admitted", "Deciding", message), *waiting("Deciding", message)), halt=True)
    if not world.fleet.admitted:
        return _refused(world, world.fleet)
    reason = BEST_EFFORT if world.fleet.best_effort else "Admitted"
    return Step((true("Admitted", reason, world.fleet.message),), status=_queue_time(world))


def _refused(world: World, verdict: FleetVerdict) -> Step:
    words = (verdict.reason, verdict.message)
    conditions = (false("Admitted", *words), *held(*words))
    return Step(conditions, status=_workers(world), halt=True, requeue_seconds=limits.REFUSAL_REFRESH_SECONDS)


def _queue_time(world: World) -> dict[str, object]:
    """Seconds from creation to the first admission."""
    time = world.status.get("time") or {}
    if "queueSeconds" in time:
        return {}
    return {"time": {**time, "queueSeconds": max(0, round((world.now - world.created).total_seconds()))}}


def _workers(world: World) -> dict[str, object]:
    """Workers on their way out, and no word any more of when they would have been done."""
    return {"workers": worker_counts(world), **without_estimates(world, {})}
