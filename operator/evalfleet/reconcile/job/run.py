"""Step 4: workers score. Progress is pulled from them, and never trusted to go back or beyond the plan."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.children import HOPELESS, Phase
from evalfleet.reconcile.conditions import Condition, false, true, unknown
from evalfleet.reconcile.job.counts import count_failures, worker_counts
from evalfleet.reconcile.job.plan import failure_reason
from evalfleet.reconcile.job.pods import waiting_message, whereabouts
from evalfleet.reconcile.job.state import JobState, RunProgress, WorkerView, all_scored, fold_progress
from evalfleet.reconcile.job.terminal import ESTIMATES, failed, held, stamp, waiting
from evalfleet.reconcile.job.waits import provisioning_time
from evalfleet.reconcile.steps import Step

FATAL_REASONS = HOPELESS | {"PodFailurePolicy"}


def run(state: JobState) -> Step:
    """State WorkersReady and ProgressKnown until every unit is committed."""
    if all_scored(state):
        done = "everything is scored"
        stated = (false("WorkersReady", "Complete", f"{done}: no worker is needed any more"),)
        return Step((*stated, unknown("ProgressKnown", "Complete", done)), _status(state, fold_progress(state)))
    dead = _given_up(state)
    if dead is not None:
        return dead
    progress = fold_progress(state)
    status = _status(state, progress)
    ready = _workers_ready(state)
    conditions = (ready, *_progress_known(state), *_summary(state, status, ready))
    return Step(conditions, status=status, halt=True, requeue_seconds=limits.RUNNING_SECONDS)


def _summary(state: JobState, status: dict[str, Any], workers_ready: Condition) -> tuple[Condition, ...]:
    """Ready and Reconciling: what is waited for while no worker runs, else how far the work is."""
    admission, percent, ready = state.admission, status["progress"]["percent"], status["workers"]["ready"]
    if state.away is not None:
        return waiting(state.away[0], f"{percent} % done; {state.away[1]}")
    if admission is not None and admission.setback is not None:
        reason, message = admission.setback
        return held(reason, f"{percent} % done; {message}", stalled=admission.stalled)
    if ready:
        return waiting("Scoring", f"scoring: {percent} % done by {ready} worker{'' if ready == 1 else 's'}")
    return held(workers_ready.reason, f"{percent} % done; {workers_ready.message}")


def _given_up(state: JobState) -> Step | None:
    """Fatal exits and the back-off limit; reclaims never count."""
    assert state.job is not None
    fatal = [w for w in state.workers if w.child.phase is Phase.FAILED and w.child.reason in FATAL_REASONS]
    failures = count_failures(state).total
    if not fatal and failures <= state.job.spec.backoff_limit:
        return None
    reason, message = _last_failure(fatal or [worker for worker in state.workers if worker.failures])
    if not fatal and reason not in HOPELESS:
        counted = f"{failures} worker failures, spec.backoffLimit is {state.job.spec.backoff_limit}"
        reason, message = "BackoffLimitExceeded", f"{counted}; the last one: {message}"
    return failed(reason, message, state, _status(state, fold_progress(state)))


def _last_failure(broken: Sequence[WorkerView]) -> tuple[str, str]:
    """Why the newest of the broken workers failed."""
    if not broken:
        return "BackoffLimitExceeded", "its worker is gone"
    child = max(broken, key=lambda worker: worker.created).child
    return failure_reason(child.termination, child.reason, child.message)


def _workers_ready(state: JobState) -> Condition:
    admission, counts = state.admission, worker_counts(state)
    starting = (worker for worker in state.workers if worker.child.phase is Phase.WAITING and not worker.deleting)
    waiting_for = Counter(_wait_reason(state, worker) for worker in starting)
    if counts["ready"]:
        return true("WorkersReady", "WorkersReady", f"{counts['ready']} of {counts['desired']} workers are running")
    if state.away is not None:
        return false("WorkersReady", *state.away)
    if admission is not None and admission.setback is not None:
        return false("WorkersReady", *admission.setback)
    if waiting_for:
        (reason, message), _ = waiting_for.most_common(1)[0]
        return false("WorkersReady", reason, message)
    if admission is not None and not admission.desired:
        return false("WorkersReady", admission.reason, admission.message)
    return false("WorkersReady", "WaitingForPod", "workers are being created")


def _wait_reason(state: JobState, worker: WorkerView) -> tuple[str, str]:
    return worker.child.reason, f"{whereabouts(worker.child)}: {waiting_message(state, worker.child)}"


def _progress_known(state: JobState) -> tuple[Condition, ...]:
    running = [worker for worker in state.workers if worker.child.phase is Phase.RUNNING]
    if not running:
        return (unknown("ProgressKnown", "NoWorkers", "no worker runs"),)
    if any(worker.progress is not None and not worker.stale for worker in running):
        return (true("ProgressKnown", "Reported", "workers report their progress"),)
    known = any(worker.progress is not None for worker in running)
    since = f"has answered for {limits.RATE_SECONDS:.0f} s" if known else "has answered yet"
    return (false("ProgressKnown", "NoAnswer", f"no running worker {since}: the rate is the plan's prediction"),)


def _status(state: JobState, progress: RunProgress) -> dict[str, Any]:
    total = state.planned_units
    shown: dict[str, Any] = {
        "percent": 100 * progress.units_done // total if total else 100,
        "unitsTotal": total,
        "unitsDone": progress.units_done,
    }
    if progress.requests_per_second is not None:
        shown["requestsPerSecond"] = f"{min(progress.requests_per_second, limits.REQUESTS_PER_SECOND):.1f}"
    if state.eta is not None and progress.units_done < total:
        moments = (state.eta.expected, state.eta.low, state.eta.high)
        shown |= zip(ESTIMATES, map(stamp, moments), strict=True)
    return {"progress": shown, "workers": worker_counts(state), **provisioning_time(state)}
