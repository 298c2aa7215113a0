"""Step 4: workers score. Progress is pulled from them, and never trusted to go back or beyond the plan."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.children import HOPELESS, Phase
from evalfleet.reconcile.conditions import Condition, false, true
from evalfleet.reconcile.job.cost import cost_status
from evalfleet.reconcile.job.counts import count_failures, worker_counts
from evalfleet.reconcile.job.deadline import deadline_of
from evalfleet.reconcile.job.plan import failure_words
from evalfleet.reconcile.job.pods import waiting_words
from evalfleet.reconcile.job.terminal import ESTIMATES, failed, held, stamp, waiting
from evalfleet.reconcile.job.waits import provisioning_time
from evalfleet.reconcile.job.world import RunProgress, WorkerView, World, fold_progress
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
    conditions = (*_workers_ready(world), *_progress_known(world), *_on_time(world))
    return Step(
        (*conditions, *_summary(world, status)), status=status, halt=True, requeue_seconds=limits.RUNNING_SECONDS
    )


def _summary(world: World, status: dict[str, Any]) -> tuple[Condition, ...]:
    """Ready and Reconciling: the Fleet's words where it wants no worker, else how far the work is."""
    fleet, percent = world.fleet, status["progress"].get("percent", 0)
    if fleet is None or fleet.desired or status["workers"]["ready"]:
        ready = status["workers"]["ready"]
        return waiting("Scoring", f"scoring: {percent} % done by {ready} worker{'' if ready == 1 else 's'}")
    return held(fleet.reason, f"{percent} % done; {fleet.message}")


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
    return failed(reason, message, world, _status(world, fold_progress(world)))


def _last_words(broken: Sequence[WorkerView]) -> tuple[str, str]:
    """Why the newest of the broken workers failed."""
    if not broken:
        return "BackoffLimitExceeded", "its worker is gone"
    child = max(broken, key=lambda worker: worker.created).child
    return failure_words(child.termination, child.reason, child.message)


def _workers_ready(world: World) -> tuple[Condition, ...]:
    waiting_for = Counter(_wait_words(world, worker) for worker in world.workers if worker.child.phase is Phase.WAITING)
    counts = worker_counts(world)
    if counts["ready"]:
        return (true("WorkersReady", "WorkersReady", f"{counts['ready']} of {counts['desired']} workers are running"),)
    if not waiting_for:
        words = (world.fleet.reason, world.fleet.message) if world.fleet else ("NoWorkers", "no worker yet")
        return (false("WorkersReady", *words),)
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


def _on_time(world: World) -> tuple[Condition, ...]:
    """By the probability that the capacity core gives; the deadline is also in danger once it has passed."""
    deadline, eta = deadline_of(world), world.eta
    if deadline is None or (eta is None and world.now <= deadline):
        return ()
    if eta is None:
        return (false("OnTime", "DeadlineMissed", f"the deadline {stamp(deadline)} has passed"),)
    expected = f"expected at {stamp(eta.expected)}, deadline {stamp(deadline)}"
    if eta.expected <= deadline:
        return (true("OnTime", "OnTime", expected),)
    return (false("OnTime", "DeadlineAtRisk", expected),)


def _status(world: World, progress: RunProgress) -> dict[str, Any]:
    total = world.planned_units
    shown: dict[str, Any] = {
        "percent": 100 * progress.units_done // total if total else 100,
        "unitsTotal": total,
        "unitsDone": progress.units_done,
    }
    if progress.requests_per_second is not None:
        shown["requestsPerSecond"] = f"{min(progress.requests_per_second, limits.REQUESTS_PER_SECOND):.1f}"
    shown |= dict.fromkeys(ESTIMATES)  # None removes what was said before
    if world.eta is not None and progress.units_done < total:
        moments = (world.eta.expected, world.eta.low, world.eta.high)
        shown |= zip(ESTIMATES, map(stamp, moments), strict=True)
    return {"progress": shown, "workers": worker_counts(world), **cost_status(world), **provisioning_time(world)}
