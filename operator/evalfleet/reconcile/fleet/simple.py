"""The plain capacity decision: spot pools first, as many workers as the units keep busy. Pure.

`min(maxWorkers, ceil(unitsLeft / UNITS_PER_WORKER))` per job, in order of priority and age, within quota and limits.
"""

from collections import Counter
from collections.abc import Iterator
from math import ceil

from evalfleet_scaling.model import (
    CapacityType,
    FleetDecision,
    FleetSnapshot,
    Job,
    JobDecision,
    Pool,
    PoolCount,
    Start,
    Worker,
)

SECONDS_PER_WORKER = 10.0
"""Work that makes another worker worth its start: two units of five seconds."""


def decide_simple(snapshot: FleetSnapshot) -> FleetDecision:
    """Workers for every job of the snapshot; nobody is refused, the last in line wait for quota."""
    free = _Free(snapshot)
    order = sorted(snapshot.jobs, key=lambda job: (-job.priority, job.submitted_seconds, job.name))
    decided = {job.name: _decide(job, snapshot, free) for job in order}
    decisions = tuple(decided[job.name] for job in snapshot.jobs)
    starts = sum(len(decision.starts) for decision in decisions)
    victims = sum(len(decision.victims) for decision in decisions)
    message = f"{starts} workers to start and {victims} to stop for {len(decisions)} jobs"
    return FleetDecision(decisions, "Scaled" if starts or victims else "Steady", message)


def wanted_workers(job: Job) -> int:
    """Workers that the work left keeps busy."""
    if job.suspended or job.work_left_gpu_seconds <= 0:
        return 0
    busy = ceil(job.work_left_gpu_seconds / SECONDS_PER_WORKER)
    return max(1, min(job.max_workers, max(job.min_workers, busy)))


class _Free:
    """Room left in pools and in the policy while jobs are served in turn."""

    def __init__(self, snapshot: FleetSnapshot) -> None:
        used = Counter(worker.pool_name for worker in snapshot.workers)
        self.pools = {pool.name: pool.max_workers - used[pool.name] for pool in snapshot.pools}
        limit = snapshot.limits.max_workers
        self.total = float("inf") if limit is None else limit - len(snapshot.workers)
        self.order = sorted(snapshot.pools, key=_preference)

    def take(self) -> Iterator[str]:
        """Pool names with room, best first, one worker each."""
        for pool in self.order:
            while self.pools[pool.name] > 0 and self.total > 0:
                self.pools[pool.name] -= 1
                self.total -= 1
                yield pool.name

    def give_back(self, worker: Worker) -> None:
        """A victim's place is free."""
        self.pools[worker.pool_name] += 1
        self.total += 1


def _preference(pool: Pool) -> tuple[bool, int, float, str]:
    cheap_first = pool.capacity_type is not CapacityType.SPOT
    return cheap_first, -pool.priority, float(pool.price_per_hour), pool.name


def _decide(job: Job, snapshot: FleetSnapshot, free: _Free) -> JobDecision:
    running = sorted((w for w in snapshot.workers if w.job_name == job.name), key=lambda worker: worker.slot)
    wanted = wanted_workers(job)
    kept, victims = running[:wanted], running[wanted:]
    for worker in victims:
        free.give_back(worker)
    taken = {worker.slot for worker in kept}
    slots = (slot for slot in range(job.max_workers + len(taken)) if slot not in taken)
    wanted_slots = zip(range(wanted - len(kept)), slots, free.take(), strict=False)  # take() last: it is consumed
    starts = tuple(Start(job.name, slot, pool) for _, slot, pool in wanted_slots)
    reason, message = _words(job, wanted, len(kept) + len(starts))
    counts = Counter([worker.pool_name for worker in kept] + [start.pool_name for start in starts])
    return JobDecision(
        job_name=job.name,
        reason=reason,
        message=message,
        admitted=bool(kept or starts) or wanted == 0,
        desired=tuple(PoolCount(name, count) for name, count in sorted(counts.items())),
        starts=starts,
        victims=tuple(worker.name for worker in victims),
    )


def _words(job: Job, wanted: int, got: int) -> tuple[str, str]:
    if job.suspended:
        return "Suspended", "suspended: no workers"
    if got == 0 and wanted > 0:
        return "WaitingForQuota", "all pools of the policy are fully used by jobs that come first"
    if got < wanted:
        return "Admitted", f"{got} of {wanted} wanted workers fit the pools' quota"
    return "Admitted", f"{got} workers for {job.work_left_gpu_seconds:.0f} s of work left"
