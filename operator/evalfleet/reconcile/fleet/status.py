"""The status of a ScalingPolicy, from the world and the decision. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from evalfleet import conditions as cond
from evalfleet.conditions import Condition, false, true
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.evaluationjob.terminal import stamp
from evalfleet.reconcile.fleet.world import World, live_workers


def policy_status(
    world: World, before: Mapping[str, Any], generation: int, decision: tuple[str, str]
) -> dict[str, Any]:
    """The new status; `lastDecision` moves only when the decision changes something."""
    live = [worker for job in world.jobs.values() for worker in live_workers(job)]
    ready = [worker for worker in live if worker.child.phase is Phase.RUNNING]
    by_pool, ready_by_pool = Counter(w.pool for w in live), Counter(w.pool for w in ready)
    status = {
        **before,
        "conditions": cond.merge(before.get("conditions") or [], _conditions(world), generation, stamp(world.now)),
        "observedGeneration": generation,
        "jobs": _jobs(world),
        "workers": {"desired": len(live), "ready": len(ready)},
        "pools": [
            {"name": pool.name, "workers": by_pool[pool.name], "ready": ready_by_pool[pool.name]}
            for pool in world.pools
        ],
    }
    reason, message = decision
    if reason != "Steady":
        status["lastDecision"] = {"time": stamp(world.now), "reason": reason, "message": message}
    return status


def _jobs(world: World) -> dict[str, int]:
    open_jobs = [job for job in world.jobs.values() if not job.terminal]
    running = [job for job in open_jobs if any(w.child.phase is Phase.RUNNING for w in job.workers)]
    admitted = [job for job in open_jobs if job.is_true("Admitted")]
    return {"queued": len(open_jobs) - len(admitted), "admitted": len(admitted), "running": len(running)}


def _conditions(world: World) -> tuple[Condition, ...]:
    waiting = sum(job.fleet is not None and not job.fleet.admitted for job in world.jobs.values())
    limited = (
        true("ScalingLimited", "WaitingForQuota", f"{waiting} jobs wait for room in the pools")
        if waiting
        else false("ScalingLimited", "WithinLimits", "no job waits for room")
    )
    return (
        true("Ready", "Ready", "the policy is in use"),
        true("ScalingActive", "Active", "workers follow the work"),
        true("AbleToScale", "Able", "workers can be created and deleted"),
        limited,
    )
