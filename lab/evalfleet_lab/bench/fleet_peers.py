"""Peers of the fleet decision in the replay: admission and sharing as others do it, behind the same function."""

from dataclasses import dataclass, replace

import numpy as np

from evalfleet_scaling.arrays import IntArray
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import (
    FleetDecision,
    FleetSnapshot,
    Job,
    JobDecision,
    PoolCount,
    Start,
    StrategyName,
    Worker,
)

_LONGEST_PLAN_TICKS = 20_000


def evalfleet(snapshot: FleetSnapshot) -> FleetDecision:
    """The operator's own decision."""
    return decide_fleet(snapshot)


def edf_on_demand(snapshot: FleetSnapshot) -> FleetDecision:
    """The same admission, everything on demand."""
    on_demand = {pool.name for pool in snapshot.pools if not pool.is_spot}
    return decide_fleet(
        replace(
            snapshot,
            pools=tuple(pool for pool in snapshot.pools if pool.name in on_demand),
            observations=tuple(one for one in snapshot.observations if one.pool_name in on_demand),
            strategy=StrategyName.ON_DEMAND_ONLY,
        )
    )


def greedy(snapshot: FleetSnapshot) -> FleetDecision:
    """No admission: every job runs on spot, and on demand from its own latest safe moment."""
    jobs = tuple(replace(job, best_effort=True, admitted_seconds=job.submitted_seconds) for job in snapshot.jobs)
    return decide_fleet(replace(snapshot, jobs=jobs, strategy=StrategyName.GREEDY))


def elasticflow_like(snapshot: FleetSnapshot) -> FleetDecision:
    """ElasticFlow (ASPLOS'23) on the on-demand quota: smallest whole shares by progressive filling, then the rest.

    A newcomer is admitted when every admitted job still finds a share that meets its deadline; what is left over goes,
    one worker at a time, to the job with the fewest workers. Start-ups are part of the plan.
    """
    pool = next(pool for pool in snapshot.pools if not pool.is_spot)
    plan = _Plan(snapshot, pool.max_workers, pool.expected_startup_seconds)
    known = sorted((job for job in snapshot.jobs if job.admitted_seconds is not None), key=_deadline)
    newcomers = [job for job in snapshot.jobs if job.admitted_seconds is None]
    shares, _ = plan.fill(known)
    admitted = known
    for job in newcomers:
        together = sorted([*admitted, job], key=_deadline)
        trial, late = plan.fill(together)
        if late <= plan.late_already:
            admitted, shares = together, trial
    given = plan.with_leftover(admitted, shares)
    accepted = {job.name for job in admitted}
    workers = {job.name: [item for item in snapshot.workers if item.job_name == job.name] for job in snapshot.jobs}
    return FleetDecision(
        tuple(
            _judged(job, workers[job.name], given[job.name], pool.name)
            if job.name in accepted
            else JobDecision(job.name, "DeadlineInfeasible", "no share meets the deadline", admitted=False)
            for job in snapshot.jobs
        ),
        "Decided",
        "ElasticFlow-like",
    )


def _deadline(job: Job) -> float:
    return float("inf") if job.deadline_seconds is None else job.deadline_seconds


@dataclass(slots=True)
class _Plan:
    """Progressive filling on a grid of ticks."""

    snapshot: FleetSnapshot
    quota: int
    startup_seconds: float
    late_already: int = 0

    def fill(self, jobs: list[Job]) -> tuple[dict[str, int], int]:
        """Smallest shares in order of deadlines, and how many jobs find none."""
        tick, now = self.snapshot.decision_period_seconds, self.snapshot.now_seconds
        longest = max((_deadline(job) - now for job in jobs), default=0.0)
        free = np.full(max(min(int(longest // tick), _LONGEST_PLAN_TICKS), 1), self.quota)
        running = {job.name: 0 for job in jobs}
        for worker in self.snapshot.workers:
            if worker.job_name in running:
                running[worker.job_name] += 1
        shares, late = {}, 0
        for job in jobs:
            ticks = max(int((_deadline(job) - now) // tick), 0)
            share, used = self._smallest(job, free[:ticks], running[job.name])
            late += share == 0
            shares[job.name] = share
            free[: len(used)] -= used
        if all(job.admitted_seconds is not None for job in jobs):
            self.late_already = late
        return shares, late

    def _smallest(self, job: Job, free: IntArray, running: int) -> tuple[int, IntArray]:
        tick = self.snapshot.decision_period_seconds
        low, high = 1, job.max_workers
        if not self._fits(job, free, high, running):
            return 0, free[:0]
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(job, free, middle, running) else (middle + 1, high)
        used = np.minimum(free, low)
        need = (job.work_left_gpu_seconds + max(low - running, 0) * self.startup_seconds) / tick
        end = int(np.searchsorted(np.cumsum(used), need)) + 1
        return low, used[:end]

    def _fits(self, job: Job, free: IntArray, share: int, running: int) -> bool:
        work = job.work_left_gpu_seconds + max(share - running, 0) * self.startup_seconds
        return float(np.minimum(free, share).sum()) * self.snapshot.decision_period_seconds >= work

    def with_leftover(self, jobs: list[Job], shares: dict[str, int]) -> dict[str, int]:
        """Shares that fit now, late jobs included, then one worker at a time to the job with the fewest."""
        given, left = {}, self.quota
        for job in jobs:
            given[job.name] = min(shares[job.name] or job.max_workers, left)
            left -= given[job.name]
        growing = [job for job in jobs if given[job.name] < job.max_workers]
        while left > 0 and growing:
            smallest = min(growing, key=lambda job: given[job.name])
            given[smallest.name] += 1
            left -= 1
            growing = [job for job in growing if given[job.name] < job.max_workers]
        return given


def _judged(job: Job, workers: list[Worker], count: int, pool: str) -> JobDecision:
    stay = sorted(workers, key=lambda worker: worker.startup_left_seconds)[:count]
    gone = {worker.name for worker in workers} - {worker.name for worker in stay}
    taken = {worker.slot for worker in stay}
    free = [slot for slot in range(count + len(workers) + len(taken)) if slot not in taken][: count - len(stay)]
    starts = tuple(Start(job.name, slot, pool) for slot in free)
    return JobDecision(
        job.name,
        "Running",
        f"share {count}",
        desired=(PoolCount(pool, count),),
        starts=starts,
        victims=tuple(sorted(gone)),
    )
