"""Workers of a job by state, and their failures, for status. Pure."""

from dataclasses import dataclass
from typing import Any

from evalfleet.reconcile.evaluationjob.world import World


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed worker pods of the whole run.

    Attributes:
        total: all of them, also of workers that are gone.
        by_job: what of the total is counted of each worker Job that still exists, by uid.
    """

    total: int
    by_job: tuple[tuple[str, int], ...]


def count_failures(world: World) -> Failures:
    """The persisted count plus what existing Jobs show beyond their share of it.

    Jobs go (suspension, a smaller width, somebody's clean-up) and take their own counts with them; the sum and the
    shares are written together, so that nothing is forgotten and nothing is counted twice, whenever a pass is lost.
    """
    before = world.status.get("workers") or {}
    counted = {str(entry["uid"]): int(entry["count"]) for entry in before.get("failed") or []}
    shown = {worker.uid: max(worker.failures, counted.get(worker.uid, 0)) for worker in world.workers}
    fresh = sum(count - counted.get(uid, 0) for uid, count in shown.items())
    return Failures(int(before.get("failures") or 0) + fresh, tuple((uid, n) for uid, n in sorted(shown.items()) if n))


def worker_counts(world: World) -> dict[str, Any]:
    """Workers by state, for status."""
    live = [
        worker for worker in world.workers if not worker.deleting and worker.child.phase.value in ("Waiting", "Running")
    ]
    before = int((world.status.get("workers") or {}).get("preemptions") or 0)
    seen = sum(worker.child.preempted for worker in world.workers)
    failures = count_failures(world)
    return {
        "desired": world.fleet.desired if world.fleet else 0,
        "ready": sum(worker.child.phase.value == "Running" for worker in live),
        "spot": sum(worker.capacity_type == "Spot" for worker in live),
        "onDemand": sum(worker.capacity_type != "Spot" for worker in live),
        "preemptions": max(before, seen, int(world.extra.get("preemptions") or 0)),
        "failures": failures.total,
        "failed": [{"uid": uid, "count": count} for uid, count in failures.by_job],
    }
