"""Workers of a job by state, for status. Pure."""

from evalfleet.reconcile.evaluationjob.world import World


def worker_counts(world: World) -> dict[str, int]:
    """Workers by state, for status."""
    live = [
        worker for worker in world.workers if not worker.deleting and worker.child.phase.value in ("Waiting", "Running")
    ]
    before = int((world.status.get("workers") or {}).get("preemptions") or 0)
    seen = sum(worker.child.preempted for worker in world.workers)
    return {
        "desired": world.fleet.desired if world.fleet else 0,
        "ready": sum(worker.child.phase.value == "Running" for worker in live),
        "spot": sum(worker.capacity_type == "Spot" for worker in live),
        "onDemand": sum(worker.capacity_type != "Spot" for worker in live),
        "preemptions": max(before, seen, int(world.extra.get("preemptions") or 0)),
    }
