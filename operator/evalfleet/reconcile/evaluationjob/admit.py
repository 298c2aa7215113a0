"""Step 3: may it run now? The Fleet decides for all jobs of the policy together; this step repeats its words."""

from evalfleet.conditions import false, true, unknown
from evalfleet.reconcile.evaluationjob.terminal import waiting
from evalfleet.reconcile.evaluationjob.world import World
from evalfleet.reconcile.steps import Step


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
    if world.fleet is None:
        message = "the fleet has not decided yet"
        return Step((unknown("Admitted", "Deciding", message), *waiting("Deciding", message)), halt=True)
    if not world.fleet.admitted:
        refused = false("Admitted", world.fleet.reason, world.fleet.message)
        return Step((refused, *waiting(world.fleet.reason, world.fleet.message)), status=_workers(world), halt=True)
    return Step((true("Admitted", world.fleet.reason, world.fleet.message),))


def _workers(world: World) -> dict[str, object]:
    return {"workers": worker_counts(world)}


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
