"""Step 3: may it run now? The Fleet decides for all jobs of the policy together; this step repeats its reason."""

from evalfleet import limits
from evalfleet.reconcile.announce import BEST_EFFORT
from evalfleet.reconcile.conditions import false, true, unknown
from evalfleet.reconcile.job.state import Admission, JobState, all_scored, live_cpu_jobs
from evalfleet.reconcile.job.terminal import held, waiting
from evalfleet.reconcile.steps import Step


def suspend(state: JobState) -> Step:
    """State Suspended: the Fleet removes the workers, plan and finish pods end too, what is done is kept."""
    if state.job is None or not state.job.spec.suspend:
        return Step()
    message = "suspended by spec.suspend; what is done is kept"
    return Step(
        conditions=(
            true("Suspended", "Suspended", message),
            false("Ready", "Suspended", message),
            false("Reconciling", "Suspended", message),
            false("WorkersReady", "Suspended", message),
        ),
        actions=live_cpu_jobs(state),
        halt=True,
    )


def admit(state: JobState) -> Step:
    """State Admitted, with the Fleet's reason and message."""
    if state.planned_units == 0:
        return Step((true("Admitted", "AllCached", "nothing is left to score"),))
    if all_scored(state):  # perhaps while the operator was away: the Fleet has nothing to say about it any more
        return Step((true("Admitted", "Scored", "everything is scored"),))
    if state.away is not None:
        kept = state.is_true("Admitted") and any(not worker.deleting for worker in state.workers)
        return Step() if kept else Step((unknown("Admitted", *state.away),))
    if state.admission is None:
        message = "the fleet has not decided yet"
        return Step((unknown("Admitted", "Deciding", message), *waiting("Deciding", message)), halt=True)
    if not state.admission.admitted:
        return _refused(state, state.admission)
    reason = BEST_EFFORT if state.admission.best_effort else "Admitted"
    return Step((true("Admitted", reason, state.admission.message),), status=_queue_time(state))


def _refused(state: JobState, admission: Admission) -> Step:
    why = (admission.reason, admission.message)
    conditions = (false("Admitted", *why), *held(*why))
    return Step(conditions, halt=True, requeue_seconds=limits.REFUSAL_REFRESH_SECONDS)


def _queue_time(state: JobState) -> dict[str, object]:
    """Seconds from creation to the first admission."""
    time = state.status.get("time") or {}
    if "queueSeconds" in time:
        return {}
    return {"time": {**time, "queueSeconds": max(0, round((state.now - state.created).total_seconds()))}}
