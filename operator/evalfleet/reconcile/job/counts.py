"""Workers of a job by state, and their failures, for status. Pure."""

from dataclasses import dataclass
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.job.state import JobState


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed worker pods of the whole run.

    Attributes:
        total: all of them, also of workers that are gone.
        by_job: what of the total is counted of each worker Job that still exists, by uid.
    """

    total: int
    by_job: tuple[tuple[str, int], ...]


def count_failures(state: JobState) -> Failures:
    """The persisted count plus what existing Jobs show beyond their share of it.

    Jobs go (suspension, a smaller width, somebody's clean-up) and take their own counts with them; the sum and the
    shares are written together, so that nothing is forgotten and nothing is counted twice, whenever a pass is lost.
    """
    before = state.status.get("workers") or {}
    counted = {str(entry["uid"]): int(entry["count"]) for entry in before.get("failed") or []}
    shown = {worker.uid: max(worker.failures, counted.get(worker.uid, 0)) for worker in state.workers}
    fresh = sum(count - counted.get(uid, 0) for uid, count in shown.items())
    return Failures(int(before.get("failures") or 0) + fresh, tuple((uid, n) for uid, n in sorted(shown.items()) if n))


def count_preemptions(state: JobState) -> tuple[int, list[str]]:
    """Pods taken away in the whole run, and which of them the count holds already.

    As with failures, count and shares are written together: pods go, operators restart, and none is forgotten or
    counted twice. Eight digits of a uid tell a thousand pods of one run apart.
    """
    before = state.status.get("workers") or {}
    taken = {uid[: limits.UID_DIGITS] for uid in state.preempted}
    fresh = taken - set(before.get("preempted") or [])
    return int(before.get("preemptions") or 0) + len(fresh), sorted(taken)[: limits.PREEMPTED_LISTED]


def worker_counts(state: JobState) -> dict[str, Any]:
    """Workers by state, for status."""
    live = [
        worker for worker in state.workers if not worker.deleting and worker.child.phase.value in ("Waiting", "Running")
    ]
    preemptions, preempted = count_preemptions(state)
    failures = count_failures(state)
    return {
        "desired": state.admission.desired if state.admission else 0,
        "ready": sum(worker.child.phase.value == "Running" for worker in live),
        "spot": sum(worker.capacity_type == "Spot" for worker in live),
        "onDemand": sum(worker.capacity_type != "Spot" for worker in live),
        "preemptions": preemptions,
        "preempted": preempted,
        "failures": failures.total,
        "failed": [{"uid": uid, "count": count} for uid, count in failures.by_job][: limits.FAILED_LISTED],
    }
