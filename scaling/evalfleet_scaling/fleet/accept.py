"""Which jobs take part in this decision, and with what promise."""

from dataclasses import dataclass, replace
from enum import IntEnum
from math import inf

import numpy as np

from evalfleet_scaling.admission import Admissions, Capacity, admit
from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.memory import Refusal
from evalfleet_scaling.promises import Promises
from evalfleet_scaling.spend import ends_of_periods

_OVERRUN = 1.25  # a promise covers the work planned at admission and a quarter more, not a runaway estimate
_RETRY_SECONDS = 60.0
_FILL_ROWS = 12_000  # rows of all admission fills of one decision together: bounds its time
_FEWEST_FILLS = 9  # one test and one search for the earliest deadline


class Standing(IntEnum):
    """What a job is in this decision."""

    GUARANTEED = 0  # has a deadline that the on-demand quota keeps
    BEST_EFFORT = 1  # has a deadline that nothing guarantees
    NO_DEADLINE = 2
    DONE = 3
    SUSPENDED = 4
    REFUSED = 5
    UNDECIDED = 6  # admission is asked again at the next decision
    NO_POOL = 7  # no pool of the policy that is allowed to it has room for a worker


@dataclass(frozen=True, slots=True)
class Accepted:
    """Standing of every job, and the refusals in words' raw material."""

    standing: IntArray  # [J]
    earliest: FloatArray  # [J] seconds from now for refused jobs; inf: never
    short_of_money: BoolArray  # [J] refused for money, not quota
    refused: dict[str, Refusal]  # for the memory

    @property
    def active(self) -> BoolArray:
        """[J] jobs that may have workers."""
        result: BoolArray = self.standing <= Standing.NO_DEADLINE
        return result

    @property
    def guaranteed(self) -> BoolArray:
        """[J] jobs whose deadline is promised."""
        result: BoolArray = self.standing == Standing.GUARANTEED
        return result


def accept_jobs(fleet: Fleet) -> Accepted:
    """Keep earlier promises, examine new requests, remember refusals."""
    jobs = fleet.jobs
    standing = _standing(fleet)
    earliest = np.full(len(standing), inf)
    short = np.zeros(len(standing), dtype=np.bool_)
    refused = _still_refused(fleet, standing)
    for row, refusal in refused.items():
        moment = refusal.earliest_feasible_deadline_seconds
        earliest[row] = inf if moment is None else moment - fleet.now
        short[row] = refusal.short_of_money
        standing[row] = Standing.BEST_EFFORT if jobs.run_anyway[row] else Standing.REFUSED
    requests = _requests(fleet, standing)
    if len(requests):
        admissions = _examine(fleet, standing, requests)
        standing[requests] = _after(admissions, jobs.run_anyway[requests])
        earliest[requests] = admissions.earliest
        short[requests] = admissions.short_of_money
        refused |= _new_refusals(fleet, requests, admissions)
    memory = {jobs.jobs[row].name: refusal for row, refusal in refused.items()}
    return Accepted(standing, earliest, short, memory)


def promises_of(fleet: Fleet, rows: IntArray, start_cost: float) -> Promises:
    """What the given jobs need of on-demand capacity, with the on-demand workers they already have."""
    jobs, workers, pools = fleet.jobs, fleet.workers, fleet.pools
    steady = ~pools.is_spot[workers.pool]
    count = len(jobs.work)
    running = np.bincount(workers.job[steady], minlength=count).astype(np.float64)
    delay = np.bincount(workers.job[steady], weights=workers.startup_left[steady], minlength=count).astype(np.float64)
    planned = np.where(jobs.was_admitted, jobs.work_total * _OVERRUN, jobs.work)
    return Promises(
        work=np.minimum(jobs.work, planned)[rows],
        width=np.minimum(jobs.width, max(fleet.quota, 1.0))[rows].astype(np.float64),
        deadline=jobs.left[rows],
        start_cost=np.full(len(rows), start_cost),
        running=np.minimum(running, jobs.width)[rows],
        running_delay=delay[rows],
    )


def _standing(fleet: Fleet) -> IntArray:
    """Standing before new requests are examined; those are UNDECIDED."""
    jobs, pools = fleet.jobs, fleet.pools
    has_deadline = np.isfinite(jobs.left)
    hopeless = jobs.work > jobs.width * np.maximum(jobs.left, 0.0)  # even with every worker ready now
    allowed = jobs.allowed
    steady, room = ~pools.is_spot, pools.max_workers > 0
    no_guarantee = (
        np.zeros(len(jobs.work), dtype=np.bool_)
        if allowed is None
        else ~(allowed & (steady & room)[None, :]).any(axis=1)
    )
    # A budget that wins and cannot pay for on-demand leaves nothing to promise a deadline with.
    price = float(pools.price[pools.fallback])
    unpaid = jobs.budget_wins & (jobs.spent + price * jobs.work / 3600 > jobs.max_cost * (1 + 1e-9))
    kept = np.where(jobs.best_effort | hopeless | unpaid, Standing.BEST_EFFORT, Standing.GUARANTEED)
    new = np.where((jobs.run_anyway & no_guarantee) | unpaid, Standing.BEST_EFFORT, Standing.UNDECIDED)
    standing = np.where(has_deadline, np.where(jobs.was_admitted, kept, new), Standing.NO_DEADLINE)
    has_pool = room.any() if allowed is None else (allowed & room[None, :]).any(axis=1)
    standing = np.where(has_pool, standing, Standing.NO_POOL)
    standing = np.where(jobs.suspended, Standing.SUSPENDED, standing)
    return np.where(jobs.work <= 0, Standing.DONE, standing).astype(np.int64)


def _still_refused(fleet: Fleet, standing: IntArray) -> dict[int, Refusal]:
    """Refusals that need no new examination yet: same request, retry time not reached."""
    memory = fleet.snapshot.memory.refused
    if not memory:
        return {}
    found = {}
    for row in np.flatnonzero(standing == Standing.UNDECIDED).tolist():
        job = fleet.jobs.jobs[row]
        refusal = memory.get(job.name)
        same = refusal is not None and (
            refusal.deadline_seconds == job.deadline_seconds
            and refusal.work_gpu_seconds == job.work_left_gpu_seconds
            and refusal.retry_seconds > fleet.now
        )
        if refusal is not None and same:
            found[row] = refusal
    return found


def _requests(fleet: Fleet, standing: IntArray) -> IntArray:
    """Rows to examine: larger priority first, then first come, first served."""
    rows = np.flatnonzero(standing == Standing.UNDECIDED)
    jobs = fleet.jobs
    return rows[np.lexsort((jobs.submitted[rows], -jobs.priority[rows]))]


def _examine(fleet: Fleet, standing: IntArray, requests: IntArray) -> Admissions:
    # A new promise reserves a start and a preemption per worker, each with a decision delay; older ones used some.
    startup = float(fleet.pools.startup[fleet.pools.fallback])
    committed = promises_of(fleet, np.flatnonzero(standing == Standing.GUARANTEED), startup + fleet.tick)
    asked = promises_of(fleet, requests, 2 * (startup + fleet.tick))
    fills = max(_FILL_ROWS // max(len(committed) + len(asked), 1), _FEWEST_FILLS)
    allowed = fleet.jobs.allowed
    if allowed is None:
        return admit(committed, asked, capacity_of(fleet), fills)
    # A job that may use no on-demand pool can be promised nothing, whatever deadline it asks for.
    reachable = (allowed[requests] & ~fleet.pools.is_spot[None, :]).any(axis=1)
    asked = replace(asked, deadline=np.where(reachable, asked.deadline, -inf))
    admissions = admit(committed, asked, capacity_of(fleet), fills)
    return replace(admissions, earliest=np.where(reachable, admissions.earliest, inf))


def capacity_of(fleet: Fleet) -> Capacity:
    """Quota and money that promises may rest on."""
    limits, pools = fleet.snapshot.limits, fleet.pools
    price = float(pools.price[pools.fallback])
    day = inf if limits.max_cost_per_day is None else float(limits.max_cost_per_day)
    month = inf if limits.max_cost_per_month is None else float(limits.max_cost_per_month)
    day_ends, month_ends = ends_of_periods(fleet.now)
    return Capacity(
        quota_workers=fleet.quota,
        cost_per_worker_second=price / 3600,
        left_this_day=day - float(limits.spent_this_day),
        per_day=day,
        left_this_month=month - float(limits.spent_this_month),
        per_month=month,
        day_ends_seconds=day_ends,
        month_ends_seconds=month_ends,
    )


def _after(admissions: Admissions, run_anyway: BoolArray) -> IntArray:
    refused = np.where(run_anyway, Standing.BEST_EFFORT, Standing.REFUSED)
    decided = np.where(admissions.admitted, Standing.GUARANTEED, refused)
    return np.where(admissions.decided, decided, Standing.UNDECIDED).astype(np.int64)


def _new_refusals(fleet: Fleet, requests: IntArray, admissions: Admissions) -> dict[int, Refusal]:
    found = {}
    for index in np.flatnonzero(admissions.decided & ~admissions.admitted).tolist():
        row = int(requests[index])
        job = fleet.jobs.jobs[row]
        earliest = float(admissions.earliest[index])
        assert job.deadline_seconds is not None
        found[row] = Refusal(
            deadline_seconds=job.deadline_seconds,
            work_gpu_seconds=job.work_left_gpu_seconds,
            earliest_feasible_deadline_seconds=None if earliest == inf else fleet.now + earliest,
            short_of_money=bool(admissions.short_of_money[index]),
            retry_seconds=fleet.now + _RETRY_SECONDS,
        )
    return found
