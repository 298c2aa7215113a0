"""The snapshot as arrays: one row a job, a pool or a worker. Built once per decision, never changed after."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import inf, nan
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.model import (
    Budget,
    CapacityType,
    FleetSnapshot,
    Job,
    OnConflict,
    OnInfeasible,
    Pool,
    PoolObservation,
    Worker,
    WorkerState,
)

_LARGEST_WORK = 1e15  # GPU-seconds; keeps products finite
_FOREVER = 1e12
# Members of enumerations, bound once: a look-up per job or worker is what a large fleet would pay for.
_READY, _BUDGET_WINS, _RUN_ANYWAY = WorkerState.READY, OnConflict.BUDGET, OnInfeasible.RUN_ANYWAY


@dataclass(frozen=True, slots=True)
class PoolTable:
    """Z pools. Guarantees rest on `on_demand`: on-demand pools, or where there is none every pool that is not spot.

    Reserved and local machines beside on-demand are used like spot, cheapest first: nothing is promised on them,
    because their number is fixed and others may use them.
    """

    names: tuple[str, ...]
    price: FloatArray  # [Z] per worker and hour, now
    throughput: FloatArray  # [Z]
    is_spot: BoolArray  # [Z] can be taken away
    max_workers: IntArray  # [Z]
    used: IntArray  # [Z]
    room: IntArray  # [Z] additional workers that may be started now
    startup: FloatArray  # [Z] planned (p95)
    lifetime: FloatArray  # [Z]
    offered_since: FloatArray  # [Z] clock time
    launches: FloatArray  # [Z]
    launch_failures: FloatArray  # [Z]
    on_demand: IntArray  # columns that can carry a guarantee, best first
    spot: IntArray  # columns, best first

    @property
    def fallback(self) -> int:
        """The pool that guarantees rest on first; the first pool when none can carry a guarantee."""
        return int(self.on_demand[0]) if len(self.on_demand) else 0


@dataclass(frozen=True, slots=True)
class JobTable:
    """J jobs in the order of the snapshot. Work is in seconds of a worker of the fallback pool."""

    jobs: tuple[Job, ...]
    work: FloatArray
    work_total: FloatArray
    width: IntArray  # most workers that can ever run at once
    min_workers: IntArray
    left: FloatArray  # seconds until the deadline; inf without one
    elapsed: FloatArray  # since admission
    waited: FloatArray  # since it last had a worker, else since submission
    submitted: FloatArray
    priority: FloatArray
    has_queue_wait: BoolArray
    queue_left: FloatArray  # seconds until the queue-wait SLA ends; inf without one or once met
    max_cost: FloatArray  # inf without a budget
    spent: FloatArray
    budget_wins: BoolArray  # onConflict: Budget
    run_anyway: BoolArray
    best_effort: BoolArray
    suspended: BoolArray
    was_admitted: BoolArray
    was_critical: BoolArray
    submitter: IntArray
    allowed: BoolArray | None  # [J, Z]; None: every pool for every job


@dataclass(frozen=True, slots=True)
class WorkerTable:
    """Workers sorted by job, the ones to keep first; `position` is the slot column, compact from 0 within a job."""

    workers: tuple[Worker, ...]
    job: IntArray
    pool: IntArray
    position: IntArray
    startup_left: FloatArray
    age: FloatArray
    price: FloatArray  # per hour, as it was started; nan: its pool's


@dataclass(frozen=True, slots=True)
class Fleet:
    """Everything a decision reads."""

    snapshot: FleetSnapshot
    pools: PoolTable
    jobs: JobTable
    workers: WorkerTable
    quota: float  # workers that guarantees may rest on

    @property
    def now(self) -> float:
        """Clock time of the decision [s]."""
        return self.snapshot.now_seconds

    @property
    def tick(self) -> float:
        """Longest time until the next decision [s]."""
        return max(self.snapshot.decision_period_seconds, 1.0)


def read_fleet(snapshot: FleetSnapshot) -> Fleet:
    """Tables of a snapshot."""
    worker_job, worker_pool = _worker_indices(snapshot)
    pools = _read_pools(snapshot, worker_pool)
    jobs = _read_jobs(snapshot, pools)
    workers = _read_workers(snapshot, worker_job, worker_pool)
    return Fleet(snapshot, pools, jobs, workers, _quota(snapshot, pools))


def _quota(snapshot: FleetSnapshot, pools: PoolTable) -> float:
    """Workers that guarantees may rest on: on-demand machines within quota, worker limit and money per hour."""
    limits = snapshot.limits
    quota = float(pools.max_workers[pools.on_demand].sum())
    for most in (limits.on_demand_quota_workers, limits.max_workers):
        quota = quota if most is None else min(quota, float(most))
    price = float(pools.price[pools.fallback])
    if limits.max_cost_per_hour is not None and price > 0:
        quota = min(quota, float(limits.max_cost_per_hour) / price // 1)
    return quota


def _worker_indices(snapshot: FleetSnapshot) -> tuple[IntArray, IntArray]:
    job_index = {job.name: row for row, job in enumerate(snapshot.jobs)}
    pool_index = {pool.name: column for column, pool in enumerate(snapshot.pools)}
    return (
        _integers(job_index[worker.job_name] for worker in snapshot.workers),
        _integers(pool_index[worker.pool_name] for worker in snapshot.workers),
    )


def _read_pools(snapshot: FleetSnapshot, worker_pool: IntArray) -> PoolTable:
    pools = snapshot.pools
    known = {observation.pool_name: observation for observation in snapshot.observations}
    observed = [known.get(pool.name) or PoolObservation(pool.name) for pool in pools]
    used = np.bincount(worker_pool, minlength=len(pools)).astype(np.int64)
    price = np.array([float(_price(pool, one)) for pool, one in zip(pools, observed, strict=True)])
    throughput = np.array([pool.relative_throughput for pool in pools])
    is_spot = ~_on_demand_capable(pools)
    max_workers = _integers(pool.max_workers for pool in pools)
    free = np.maximum(max_workers - used, 0)
    room = _integers(_room(*row, snapshot.now_seconds) for row in zip(pools, observed, free.tolist(), strict=True))
    # Larger priority first, then price per unit of work, then the order of the policy.
    order = np.lexsort((price / throughput, -np.array([pool.priority for pool in pools])))
    return PoolTable(
        names=tuple(pool.name for pool in pools),
        price=price,
        throughput=throughput,
        is_spot=is_spot,
        max_workers=max_workers,
        used=used,
        room=room,
        startup=np.array([_startup(*row) for row in zip(pools, observed, strict=True)]),
        lifetime=_floats((item.expected_lifetime_seconds for item in observed), inf),
        offered_since=_floats((item.offered_since_seconds for item in observed), snapshot.now_seconds),
        launches=np.array([float(item.launches) for item in observed]),
        launch_failures=np.array([float(item.launch_failures) for item in observed]),
        on_demand=order[~is_spot[order] & (max_workers[order] > 0)],
        spot=order[is_spot[order]],
    )


def _on_demand_capable(pools: Sequence[Pool]) -> BoolArray:
    on_demand = np.array([pool.capacity_type is CapacityType.ON_DEMAND and pool.max_workers > 0 for pool in pools])
    return on_demand if on_demand.any() else np.array([not pool.is_spot for pool in pools])


def _price(pool: Pool, observed: PoolObservation) -> Decimal:
    return pool.price_per_hour if observed.price_per_hour is None else observed.price_per_hour


def _startup(pool: Pool, observed: PoolObservation) -> float:
    known = observed.startup_p95_seconds
    return pool.expected_startup_seconds if known is None else known


def _room(pool: Pool, observed: PoolObservation, free: int, now: float) -> int:
    """Workers that may be started: what is offered, else one probe of a spot pool, else the size of the pool.

    The size, not what is free of it: workers may go in the same decision, and the total is limited anyway.
    """
    if observed.cool_down_until_seconds is not None and observed.cool_down_until_seconds > now:
        return 0
    if observed.offered_workers is not None:
        return min(observed.offered_workers, free if pool.is_spot else pool.max_workers)
    return min(free, 1) if pool.is_spot else pool.max_workers


# Fields of a job in the order of `_Columns`: read in one pass, a thousand jobs cost less than a millisecond.
_READ_JOB = attrgetter(
    "work_left_gpu_seconds",
    "total_work_gpu_seconds",
    "max_workers",
    "min_workers",
    "deadline_seconds",
    "admitted_seconds",
    "last_served_seconds",
    "submitted_seconds",
    "priority",
    "queue_wait_seconds",
    "first_ready_seconds",
    "budget",
    "spent",
    "on_infeasible",
    "best_effort",
    "suspended",
    "submitter",
    "name",
)


class _Columns(NamedTuple):
    """One tuple of values per field of a job."""

    work: tuple[float, ...]
    work_total: tuple[float, ...]
    width: tuple[int, ...]
    min_workers: tuple[int, ...]
    deadline: tuple[float | None, ...]
    admitted: tuple[float | None, ...]
    last_served: tuple[float | None, ...]
    submitted: tuple[float, ...]
    priority: tuple[int, ...]
    queue_wait: tuple[float | None, ...]
    first_ready: tuple[float | None, ...]
    budget: tuple[Budget | None, ...]
    spent: tuple[Decimal, ...]
    on_infeasible: tuple[OnInfeasible, ...]
    best_effort: tuple[bool, ...]
    suspended: tuple[bool, ...]
    submitter: tuple[str, ...]
    name: tuple[str, ...]


def _columns(jobs: Sequence[Job]) -> _Columns:
    rows = map(_READ_JOB, jobs)
    return _Columns(*zip(*rows, strict=True)) if jobs else _Columns(*((),) * len(_Columns._fields))


def _read_jobs(snapshot: FleetSnapshot, pools: PoolTable) -> JobTable:
    jobs, now, read = snapshot.jobs, snapshot.now_seconds, _columns(snapshot.jobs)
    rate = float(pools.throughput[pools.fallback])
    everywhere = int(pools.max_workers.sum())
    admitted, waits = _floats(read.admitted, nan), _floats(read.queue_wait, nan)
    submitted = np.array(read.submitted, dtype=np.float64)
    served = np.fmax(_floats(read.last_served, nan), submitted)
    open_wait = np.isfinite(waits) & np.isnan(_floats(read.first_ready, nan))
    return JobTable(
        jobs=jobs,
        work=_work(read.work) / rate,
        work_total=_work(read.work_total) / rate,
        width=np.minimum(np.array(read.width, dtype=np.int64), max(everywhere, 1)),
        min_workers=np.minimum(np.array(read.min_workers, dtype=np.int64), everywhere),
        left=_left(read.deadline, now),
        elapsed=np.clip(now - np.where(np.isnan(admitted), now, admitted), 0.0, _FOREVER),
        waited=np.clip(now - np.where(np.isfinite(served), served, now), 0.0, _FOREVER),
        submitted=submitted,
        priority=np.array(read.priority, dtype=np.float64),
        has_queue_wait=~np.isnan(waits),
        queue_left=submitted + np.where(open_wait, waits, inf) - now,
        max_cost=_floats((None if budget is None else float(budget.max_cost) for budget in read.budget), inf),
        spent=_floats(map(float, read.spent), 0.0),
        budget_wins=_booleans(budget is not None and budget.on_conflict is _BUDGET_WINS for budget in read.budget),
        run_anyway=_booleans(choice is _RUN_ANYWAY for choice in read.on_infeasible),
        best_effort=np.array(read.best_effort, dtype=np.bool_),
        suspended=np.array(read.suspended, dtype=np.bool_),
        was_admitted=~np.isnan(admitted),
        was_critical=_booleans(map(snapshot.memory.critical.__contains__, read.name)),
        submitter=_numbered(read.submitter),
        allowed=_allowed(jobs, pools.names),
    )


def _numbered(submitters: Sequence[str]) -> IntArray:
    """A number per name, in the order of first appearance."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(submitters))}
    return _integers(map(numbers.__getitem__, submitters))


def _left(deadline: Sequence[float | None], now: float) -> FloatArray:
    left = _floats(deadline, inf) - now
    return np.where(np.isinf(left), inf, np.clip(left, -_FOREVER, _FOREVER))


def _work(gpu_seconds: Sequence[float]) -> FloatArray:
    return np.clip(np.array(gpu_seconds, dtype=np.float64), 0.0, _LARGEST_WORK)


def _allowed(jobs: Sequence[Job], names: tuple[str, ...]) -> BoolArray | None:
    if all(job.allowed_pools is None for job in jobs):
        return None
    rows = [[job.allowed_pools is None or name in job.allowed_pools for name in names] for job in jobs]
    return np.array(rows, dtype=np.bool_)


_READ_WORKER = attrgetter("state", "startup_left_seconds", "age_seconds", "price_per_hour")


def _read_workers(snapshot: FleetSnapshot, job: IntArray, pool: IntArray) -> WorkerTable:
    """Keep ready and old workers first: they are the last to go when a job becomes narrower."""
    workers = snapshot.workers
    read = list(map(_READ_WORKER, workers))
    # A worker that is late, but not ready, still needs a moment.
    startup = _floats((0.0 if state is _READY else max(left, 1.0) for state, left, _, _ in read), 0.0)
    age = _floats((age for _, _, age, _ in read), 0.0)
    price = np.array([nan if paid is None else float(paid) for _, _, _, paid in read], dtype=np.float64)
    order = np.lexsort((-age, startup, job))
    job = job[order]
    first = np.searchsorted(job, job, side="left")
    return WorkerTable(
        workers=tuple(map(workers.__getitem__, order.tolist())),
        job=job,
        pool=pool[order],
        position=np.arange(len(workers)) - first,
        startup_left=startup[order],
        age=age[order],
        price=price[order],
    )


def _floats(values: Iterable[float | None], missing: float) -> FloatArray:
    """Array of the values; None and `missing` are the same."""
    result = np.array(tuple(values), dtype=np.float64)  # None becomes nan
    return np.where(np.isnan(result), missing, result)


def _integers(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _booleans(values: Iterable[bool]) -> BoolArray:
    return np.fromiter(values, dtype=np.bool_)
