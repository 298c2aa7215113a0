"""Step 4: workers score. Progress is pulled from them, and never trusted to go back or beyond the plan."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from evalfleet.conditions import Condition, false, true
from evalfleet.reconcile.children import ANOTHER, HOPELESS, Phase
from evalfleet.reconcile.evaluationjob.counts import count_failures, worker_counts
from evalfleet.reconcile.evaluationjob.plan import failure_words
from evalfleet.reconcile.evaluationjob.pods import waiting_words
from evalfleet.reconcile.evaluationjob.terminal import failed, stamp, waiting
from evalfleet.reconcile.evaluationjob.world import RunProgress, WorkerView, World, fold_progress
from evalfleet.reconcile.steps import Step

FATAL_REASONS = HOPELESS | {"PodFailurePolicy"}


def run(world: World) -> Step:
    """State WorkersReady, ProgressKnown and OnTime until every unit is committed."""
    if world.is_true("Scored") or all_scored(world):
        return Step(status=_status(world, fold_progress(world)))
    dead = _given_up(world)
    if dead is not None:
        return dead
    progress = fold_progress(world)
    status = _status(world, progress)
    conditions = (*_workers_ready(world), *_progress_known(world), *_on_time(world, progress))
    words = f"scoring: {status['progress'].get('percent', 0)} % done by {status['workers']['ready']} workers"
    return Step((*conditions, *waiting("Scoring", words)), status=status, halt=True, requeue_seconds=10.0)


def all_scored(world: World) -> bool:
    """Whether nothing is left: by count, or because a worker found nothing left to claim."""
    if world.planned_units == 0:
        return True
    counted = fold_progress(world).units_done >= world.planned_units
    return counted or any(worker.child.phase is Phase.SUCCEEDED for worker in world.workers)


def _given_up(world: World) -> Step | None:
    """Fatal exits and the back-off limit; reclaims never count."""
    assert world.job is not None
    fatal = [w for w in world.workers if w.child.phase is Phase.FAILED and w.child.reason in FATAL_REASONS]
    failures = count_failures(world).total
    if not fatal and failures <= world.job.spec.backoff_limit:
        return None
    reason, message = _last_words(fatal or [worker for worker in world.workers if worker.failures])
    if not fatal and reason not in HOPELESS:
        words = f"{failures} worker failures, spec.backoffLimit is {world.job.spec.backoff_limit}"
        reason, message = "BackoffLimitExceeded", f"{words}; the last one: {message}"
    return failed(reason, message, world.now, _status(world, fold_progress(world)))


def _last_words(broken: Sequence[WorkerView]) -> tuple[str, str]:
    """Why the newest of the broken workers failed."""
    if not broken:
        return "BackoffLimitExceeded", "its worker is gone"
    child = max(broken, key=lambda worker: worker.created).child
    return failure_words(child.termination, child.reason, child.message.removesuffix(ANOTHER))


def _workers_ready(world: World) -> tuple[Condition, ...]:
    waiting_for = Counter(_wait_words(world, worker) for worker in world.workers if worker.child.phase is Phase.WAITING)
    counts = worker_counts(world)
    if counts["ready"]:
        return (true("WorkersReady", "WorkersReady", f"{counts['ready']} of {counts['desired']} workers are running"),)
    if not waiting_for:
        return (false("WorkersReady", "NoWorkers", f"no worker yet; {counts['desired']} wanted"),)
    (reason, message), _ = waiting_for.most_common(1)[0]
    return (false("WorkersReady", reason, message),)


def _wait_words(world: World, worker: WorkerView) -> tuple[str, str]:
    return worker.child.reason, f"{worker.child.name}: {waiting_words(world, worker.child)}"


def _progress_known(world: World) -> tuple[Condition, ...]:
    running = [worker for worker in world.workers if worker.child.phase is Phase.RUNNING]
    if not running:
        return ()
    if any(worker.progress is not None for worker in running):
        return (true("ProgressKnown", "Reported", "workers report their progress"),)
    return (
        false("ProgressKnown", "NoAnswer", "no running worker has answered yet: the rate is the plan's prediction"),
    )


def _on_time(world: World, progress: RunProgress) -> tuple[Condition, ...]:
    assert world.job is not None
    deadline, eta = deadline_of(world), _eta(world, progress)
    if deadline is None or eta is None:
        return ()
    if eta <= deadline:
        return (true("OnTime", "OnTime", f"expected at {stamp(eta)}, deadline {stamp(deadline)}"),)
    return (false("OnTime", "DeadlineAtRisk", f"expected at {stamp(eta)}, after the deadline {stamp(deadline)}"),)


def deadline_of(world: World) -> Any:
    """The deadline as a datetime: the job's, else the policy's default; None = none."""
    if world.job is None:
        return None
    sla = world.job.spec.sla
    if sla is not None and sla.deadline_time is not None:
        return sla.deadline_time
    seconds = sla.completion_seconds if sla is not None else None
    if seconds is None and world.policy is not None and world.policy.spec.sla is not None:
        seconds = world.policy.spec.sla.default_completion_seconds
    return world.created + timedelta(seconds=seconds) if seconds else None


def _eta(world: World, progress: RunProgress) -> Any:
    plan = world.status.get("plan") or {}
    left = int(plan.get("requests") or 0) - progress.requests_done
    if progress.requests_per_second is None or left <= 0:
        return None
    return world.now + timedelta(seconds=left / progress.requests_per_second)


def _status(world: World, progress: RunProgress) -> dict[str, Any]:
    total = world.planned_units
    shown: dict[str, Any] = {
        "percent": 100 * progress.units_done // total if total else 100,
        "unitsTotal": total,
        "unitsDone": progress.units_done,
    }
    if progress.requests_per_second is not None:
        shown["requestsPerSecond"] = f"{progress.requests_per_second:.1f}"
    eta = _eta(world, progress)
    if eta is not None:
        shown["estimatedCompletionTime"] = stamp(eta)
    status: dict[str, Any] = {"progress": shown, "workers": worker_counts(world)}
    if world.money is not None:
        money = world.money
        status["cost"] = {
            "spent": money.spent,
            "onDemandEquivalent": money.on_demand_equivalent,
            "currency": money.currency,
        }
    return status
