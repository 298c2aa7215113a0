"""From what may exist to decisions with reasons and words, job by job."""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, isnan
from typing import NamedTuple

import numpy as np

from evalfleet_scaling.arrays import IntArray
from evalfleet_scaling.fleet.accept import Accepted, Standing
from evalfleet_scaling.fleet.enforce import Enforced
from evalfleet_scaling.fleet.mix import Mix
from evalfleet_scaling.fleet.share import SpotShare
from evalfleet_scaling.fleet.slots import unused_workers
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.fleet.words import duration, plural
from evalfleet_scaling.model import Job, JobDecision, LimitHit, PoolCount, Start

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
    fleet = findings.fleet
    pools = len(fleet.pools.names)
    kept = findings.enforced.slots
    counts = np.bincount(kept.job * pools + kept.pool, minlength=len(fleet.jobs.work) * pools)
    starts, victims = _starts(fleet, findings.enforced), _victims(fleet, findings.enforced)
    facts = _facts(findings, counts.reshape(-1, pools))
    return tuple(
        _decision(job, *row, starts.get(index, ()), victims.get(index, ()))
        for index, (job, row) in enumerate(zip(fleet.jobs.jobs, facts, strict=True))
    )


def explain_limits(enforced: Enforced) -> tuple[LimitHit, ...]:
    """The limits that held back workers."""
    return tuple(
        LimitHit(limit, count, f"{_LIMIT_WORDS[limit]}: {plural(count, 'worker')} held back")
        for limit, count in enforced.held_back.items()
        if limit != "pool"
    )


_Facts = tuple[str, str, int, tuple[PoolCount, ...], bool, float, float | None]


def _facts(findings: Findings, counts: IntArray) -> list[_Facts]:
    """Reason, message, standing, desired, critical, slack and earliest deadline of every job."""
    fleet, accepted = findings.fleet, findings.accepted
    firm = ~fleet.pools.is_spot
    on_demand, total = counts[:, firm].sum(axis=1).tolist(), counts.sum(axis=1).tolist()
    columns = zip(
        accepted.standing.tolist(),
        on_demand,
        total,
        findings.mix.critical.tolist(),
        findings.mix.slack.tolist(),
        fleet.jobs.left.tolist(),
        accepted.earliest.tolist(),
        strict=True,
    )
    desired = _desired(fleet, counts)
    blocked = _blocked(findings)
    short = findings.share.short.tolist()
    result: list[_Facts] = []
    for row, (standing, firm_workers, workers, critical, slack, left, earliest) in enumerate(columns):
        if standing <= _NO_DEADLINE:
            refused = standing == _BEST_EFFORT and row in blocked.refused
            spot, urgent = workers - firm_workers, left if critical else None
            why = _active_words(
                _Active(firm_workers, spot, urgent, left < inf, blocked.of(row), short[row] > 0, refused)
            )
        else:
            why = _inactive_words(Standing(standing), left, earliest, bool(accepted.short_of_money[row]))
        moment = None if earliest == inf else fleet.now + earliest
        result.append((*why, standing, desired[row], critical, slack, moment))
    return result


@dataclass(frozen=True, slots=True)
class _Blocked:
    """What held back workers of a job: a limit's name, "budget", or nothing."""

    by_row: dict[int, str]
    refused: frozenset[int]

    def of(self, row: int) -> str:
        return self.by_row.get(row, "")


def _blocked(findings: Findings) -> _Blocked:
    enforced, accepted = findings.enforced, findings.accepted
    by_row: dict[int, str] = {}
    for limit, rows in enforced.waiting.items():
        by_row |= dict.fromkeys(np.flatnonzero(rows).tolist(), limit)
    jobs = findings.fleet.jobs
    narrow = np.bincount(enforced.slots.job, minlength=len(jobs.work)) < jobs.width
    money = enforced.money_short | (enforced.on_demand_denied & np.isfinite(jobs.max_cost) & narrow)
    by_row |= dict.fromkeys(np.flatnonzero(money).tolist(), "budget")
    refused = accepted.earliest < inf
    return _Blocked(by_row, frozenset(np.flatnonzero(refused).tolist()))


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
    if job.on_demand:
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
            "no deadline is feasible"
            if earliest == inf
            else f"the earliest feasible one is {duration(earliest)} from now"
        )
        reason = "BudgetTooSmall" if short_of_money else "DeadlineInfeasible"
        return reason, f"{cause} cannot guarantee a deadline {duration(left)} from now; {when}"
    return _FIXED_WORDS[standing]


_FIXED_WORDS = {
    Standing.DONE: ("AllWorkDone", "no worker is needed: all work is done"),
    Standing.SUSPENDED: ("Suspended", "no worker: the job is suspended"),
    Standing.UNDECIDED: ("WaitingForAdmission", "many jobs ask at once; this one is examined at the next decision"),
    Standing.NO_POOL: ("NoPoolAllowed", "no worker: the job may use none of the policy's pools"),
}


@lru_cache(maxsize=4096)
def _workers_words(on_demand: int, spot: int) -> str:
    parts = [f"{count} {kind}" for count, kind in ((spot, "spot"), (on_demand, "on-demand")) if count]
    return f"{' and '.join(parts)} {'worker' if on_demand + spot == 1 else 'workers'}"


def _decision(  # one row of facts, unpacked
    job: Job,
    reason: str,
    message: str,
    standing: int,
    desired: tuple[PoolCount, ...],
    critical: bool,
    slack: float,
    earliest: float | None,
    starts: tuple[Start, ...],
    victims: tuple[str, ...],
) -> JobDecision:
    return JobDecision(
        job.name,
        reason,
        message,
        standing < _NOT_ADMITTED,
        desired,
        starts,
        victims,
        critical,
        None if isnan(slack) else slack,
        earliest,
        standing == _BEST_EFFORT,
    )


def _desired(fleet: Fleet, counts: IntArray) -> list[tuple[PoolCount, ...]]:
    names = fleet.pools.names
    result: list[tuple[PoolCount, ...]] = [()] * len(counts)
    rows, columns = np.nonzero(counts)
    for row, column, count in zip(rows.tolist(), columns.tolist(), counts[rows, columns].tolist(), strict=True):
        result[row] = (*result[row], _pool_count(names[column], count))
    return result


@lru_cache(maxsize=65536)
def _pool_count(pool: str, count: int) -> PoolCount:
    return PoolCount(pool, count)


def _starts(fleet: Fleet, enforced: Enforced) -> dict[int, tuple[Start, ...]]:
    """Workers to create, on the lowest slot numbers that stay free."""
    slots = enforced.slots
    new = np.flatnonzero(slots.worker < 0)
    new = new[np.argsort(slots.job[new], kind="stable")]
    taken = _taken_numbers(fleet, enforced, new)
    names, pools = fleet.jobs.jobs, fleet.pools.names
    result: dict[int, tuple[Start, ...]] = {}
    current, number, starts = -1, 0, list[Start]()
    for job, pool in zip(slots.job[new].tolist(), slots.pool[new].tolist(), strict=True):
        if job != current:
            if starts:
                result[current] = tuple(starts)
            current, number, starts, used = job, 0, [], taken.get(job, ())
        while number in used:
            number += 1
        starts.append(Start(names[job].name, number, pools[pool]))
        number += 1
    if starts:
        result[current] = tuple(starts)
    return result


def _taken_numbers(fleet: Fleet, enforced: Enforced, new: IntArray) -> dict[int, set[int]]:
    """Slot numbers of workers that stay, of jobs that get new ones."""
    slots = enforced.slots
    growing = np.zeros(len(fleet.jobs.work), dtype=np.bool_)
    growing[slots.job[new]] = True
    taken: dict[int, set[int]] = {}
    for row in slots.worker[(slots.worker >= 0) & growing[slots.job]].tolist():
        taken.setdefault(int(fleet.workers.job[row]), set()).add(fleet.workers.workers[row].slot)
    return taken


def _victims(fleet: Fleet, enforced: Enforced) -> dict[int, tuple[str, ...]]:
    result: dict[int, list[str]] = {}
    for row in unused_workers(fleet, enforced.slots).tolist():
        result.setdefault(int(fleet.workers.job[row]), []).append(fleet.workers.workers[row].name)
    return {job: tuple(names) for job, names in result.items()}
