"""From what may exist to decisions with reasons and words, job by job."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import count, repeat
from math import inf
from typing import NamedTuple

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.fleet.accept import Accepted, Standing
from evalfleet_scaling.fleet.enforce import Enforced
from evalfleet_scaling.fleet.mix import Mix
from evalfleet_scaling.fleet.share import SpotShare
from evalfleet_scaling.fleet.slots import unused_workers
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.fleet.words import duration, plural
from evalfleet_scaling.model import JobDecision, LimitHit, PoolCount, Start

_LIMIT_WORDS = {
    "pool": "the pools have no room",
    "onDemandQuota": "the on-demand quota is used up",
    "maxWorkers": "the policy's maxWorkers is reached",
    "maxCostPerHour": "the policy's maxCostPerHour is reached",
    "maxCostPerDay": "the policy's maxCostPerDay is reached",
    "maxCostPerMonth": "the policy's maxCostPerMonth is reached",
    "scaleUp": "the policy's scale-up rate is reached",
}
_BEST_EFFORT, _NO_DEADLINE, _NOT_ADMITTED = int(Standing.BEST_EFFORT), int(Standing.NO_DEADLINE), int(Standing.REFUSED)
_LIMIT_REASONS = {"pool": "WaitingForQuota", "onDemandQuota": "WaitingForQuota", "scaleUp": "ScaleUpLimited"}


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the words are made of."""

    fleet: Fleet
    accepted: Accepted
    share: SpotShare
    mix: Mix
    enforced: Enforced


def explain_jobs(findings: Findings) -> tuple[JobDecision, ...]:
    """One decision per job, in the order of the snapshot."""
    fleet, accepted, kept = findings.fleet, findings.accepted, findings.enforced.slots
    pools = len(fleet.pools.names)
    counts = np.bincount(kept.job * pools + kept.pool, minlength=len(fleet.jobs.work) * pools).reshape(-1, pools)
    starts, victims = _starts(fleet, findings.enforced), _victims(fleet, findings.enforced)
    slack = findings.mix.slack
    columns = zip(
        fleet.jobs.jobs,
        _words(findings, counts),
        (accepted.standing < _NOT_ADMITTED).tolist(),
        _desired(fleet, counts),
        findings.mix.critical.tolist(),
        _known(slack, ~np.isnan(slack)),
        _known(fleet.now + accepted.earliest, accepted.earliest < inf),
        (accepted.standing == _BEST_EFFORT).tolist(),
        strict=True,
    )
    return tuple(
        JobDecision(
            job.name,
            reason,
            message,
            admitted,
            desired,
            starts.get(row, ()),
            victims.get(row, ()),
            critical,
            slack_left,
            earliest,
            best_effort,
        )
        for row, (job, (reason, message), admitted, desired, critical, slack_left, earliest, best_effort) in enumerate(
            columns
        )
    )


def explain_limits(enforced: Enforced) -> tuple[LimitHit, ...]:
    """The limits that held back workers."""
    return tuple(
        LimitHit(limit, count, f"{_LIMIT_WORDS[limit]}: {plural(count, 'worker')} held back")
        for limit, count in enforced.held_back.items()
        if limit != "pool"
    )


def _words(findings: Findings, counts: IntArray) -> list[tuple[str, str]]:
    """Reason and message of every job."""
    fleet, accepted = findings.fleet, findings.accepted
    on_demand = counts[:, ~fleet.pools.is_spot].sum(axis=1)
    has_deadline = fleet.jobs.left < inf
    active = zip(
        on_demand.tolist(),
        (counts.sum(axis=1) - on_demand).tolist(),
        _known(fleet.jobs.left, findings.mix.critical),
        has_deadline.tolist(),
        _blocked(findings),
        (findings.share.short > 0).tolist(),
        ((accepted.standing == _BEST_EFFORT) & (accepted.earliest < inf)).tolist(),
        strict=True,
    )
    result = [_active_words(facts) for facts in map(_Active._make, active)]
    for row in np.flatnonzero(accepted.standing > _NO_DEADLINE).tolist():
        left, earliest = float(fleet.jobs.left[row]), float(accepted.earliest[row])
        short_of_money = bool(accepted.short_of_money[row])
        result[row] = _inactive_words(Standing(int(accepted.standing[row])), left, earliest, short_of_money)
    return result


def _known(values: FloatArray, known: BoolArray) -> list[float | None]:
    """The values, None where they are not known."""
    return [value if sure else None for value, sure in zip(values.tolist(), known.tolist(), strict=True)]


def _blocked(findings: Findings) -> list[str]:
    """What held back workers of each job: a limit's name, "budget", or nothing."""
    enforced, jobs = findings.enforced, findings.fleet.jobs
    result = [""] * len(jobs.work)
    narrow = np.bincount(enforced.slots.job, minlength=len(jobs.work)) < jobs.width
    money = enforced.money_short | (enforced.on_demand_denied & np.isfinite(jobs.max_cost) & narrow)
    for limit, rows in (*enforced.waiting.items(), ("budget", money)):
        held = rows & ~_fills_on_demand_pools(findings) if limit == "pool" else rows
        for row in np.flatnonzero(held).tolist():
            result[row] = limit
    return result


def _fills_on_demand_pools(findings: Findings) -> BoolArray:
    """Jobs that have every place there is off spot: no quota will ever come free for them."""
    fleet, slots = findings.fleet, findings.enforced.slots
    on_demand = ~fleet.pools.is_spot
    held = np.bincount(slots.job[on_demand[slots.pool]], minlength=len(fleet.jobs.work))
    result: BoolArray = held >= max(1, int(fleet.pools.max_workers[on_demand].sum()))
    return result


class _Active(NamedTuple):
    """What the words about a job depend on; most jobs have the same, so the words are made once."""

    on_demand: int
    spot: int
    urgent_left: float | None  # seconds to the deadline of a job without slack
    has_deadline: bool
    blocked: str
    short_of_spot: bool
    refused: bool


@lru_cache(maxsize=4096)
def _active_words(job: _Active) -> tuple[str, str]:
    """Reason and sentence of a job that takes part."""
    if job.on_demand + job.spot == 0:
        return _waiting_words(job)
    workers = _workers_words(job.on_demand, job.spot)
    if job.refused:
        return "DeadlineInfeasible", f"{workers}: the deadline cannot be guaranteed, the job runs anyway"
    if job.blocked == "budget":
        return "BudgetLimited", f"{workers}: the job's budget does not cover more on-demand capacity"
    if job.blocked:
        return _LIMIT_REASONS.get(job.blocked, "LimitReached"), f"{workers}: {_LIMIT_WORDS[job.blocked]}"
    if job.urgent_left is not None:
        left = duration(job.urgent_left)
        return "OnDemandForDeadline", f"{workers}: {left} to the deadline leave no slack to wait for spot"
    if job.on_demand and job.has_deadline:
        return "OnDemandForDeadline", f"{workers}: on-demand keeps the deadline safe while spot is scarce"
    return "Running", workers


def _waiting_words(job: _Active) -> tuple[str, str]:
    """Reason and sentence of a job that takes part and has no worker."""
    if job.blocked == "budget":
        return "BudgetExhausted", "no worker: the job's budget does not pay for any more capacity"
    if job.blocked:
        return _LIMIT_REASONS.get(job.blocked, "LimitReached"), f"no worker: {_LIMIT_WORDS[job.blocked]}"
    if job.short_of_spot:
        later = (
            "on-demand starts before the deadline is in danger" if job.has_deadline else "spot is offered again later"
        )
        return "NoSpotCapacity", f"no worker: no spot capacity is offered now; {later}"
    return "WaitingForSpot", "no worker: the job can wait and still meet its deadline"


def _inactive_words(standing: Standing, left: float, earliest: float, short_of_money: bool) -> tuple[str, str]:
    """Reason and sentence of a job that takes no part."""
    if standing == Standing.REFUSED:
        cause = "the policy's money limits" if short_of_money else "the on-demand quota"
        when = (
            "no deadline is feasible, only onInfeasible: RunAnyway without a guarantee"
            if earliest == inf
            else f"the earliest feasible one is {duration(earliest)} from now"
        )
        reason = "BudgetTooSmall" if short_of_money else "DeadlineInfeasible"
        asked = f"{duration(left)} from now" if left >= 0 else duration(left)
        return reason, f"{cause} cannot guarantee a deadline {asked}; {when}"
    return _FIXED_WORDS[standing]


_FIXED_WORDS = {
    Standing.DONE: ("AllWorkDone", "no worker is needed: all work is done"),
    Standing.SUSPENDED: ("Suspended", "no worker: the job is suspended"),
    Standing.UNDECIDED: ("WaitingForAdmission", "many jobs ask at once; this one is examined at the next decision"),
    Standing.NO_POOL: (
        "NoPoolAllowed",
        "no worker: no pool that it may use has a place: see maxWorkers of the pools",
    ),
}


@lru_cache(maxsize=4096)
def _workers_words(on_demand: int, spot: int) -> str:
    parts = [f"{count} {kind}" for count, kind in ((spot, "spot"), (on_demand, "on-demand")) if count]
    return f"{' and '.join(parts)} {'worker' if on_demand + spot == 1 else 'workers'}"


def _desired(fleet: Fleet, counts: IntArray) -> list[tuple[PoolCount, ...]]:
    names = fleet.pools.names
    result: list[tuple[PoolCount, ...]] = [()] * len(counts)
    rows, columns = np.nonzero(counts)
    for row, column, workers in zip(rows.tolist(), columns.tolist(), counts[rows, columns].tolist(), strict=True):
        result[row] = (*result[row], _pool_count(names[column], workers))
    return result


@lru_cache(maxsize=65536)
def _pool_count(pool: str, workers: int) -> PoolCount:
    return PoolCount(pool, workers)


def _starts(fleet: Fleet, enforced: Enforced) -> dict[int, tuple[Start, ...]]:
    """Workers to create, on the lowest slot numbers that stay free."""
    slots = enforced.slots
    new = np.flatnonzero(slots.worker < 0)
    new = new[np.argsort(slots.job[new], kind="stable")]
    taken = _taken_numbers(fleet, enforced, new)
    pools = [fleet.pools.names[column] for column in slots.pool[new].tolist()]
    jobs, first = np.unique(slots.job[new], return_index=True)
    ends = np.append(first, len(pools))[1:].tolist()
    result = {}
    for job, begin, end in zip(jobs.tolist(), first.tolist(), ends, strict=True):
        used, name = taken.get(job, ()), fleet.jobs.jobs[job].name
        numbers = (number for number in count() if number not in used) if used else count()
        result[job] = tuple(map(Start, repeat(name), numbers, pools[begin:end]))
    return result


def _taken_numbers(fleet: Fleet, enforced: Enforced, new: IntArray) -> dict[int, set[int]]:
    """Slot numbers of workers that stay, of jobs that get new ones."""
    slots = enforced.slots
    growing = np.zeros(len(fleet.jobs.work), dtype=np.bool_)
    growing[slots.job[new]] = True
    rows = slots.worker[(slots.worker >= 0) & growing[slots.job]]
    taken: dict[int, set[int]] = {}
    for job, row in zip(fleet.workers.job[rows].tolist(), rows.tolist(), strict=True):
        taken.setdefault(job, set()).add(fleet.workers.workers[row].slot)
    return taken


def _victims(fleet: Fleet, enforced: Enforced) -> dict[int, tuple[str, ...]]:
    rows = unused_workers(fleet, enforced.slots)
    result: dict[int, list[str]] = {}
    for job, row in zip(fleet.workers.job[rows].tolist(), rows.tolist(), strict=True):
        result.setdefault(job, []).append(fleet.workers.workers[row].name)
    return {job: tuple(names) for job, names in result.items()}
