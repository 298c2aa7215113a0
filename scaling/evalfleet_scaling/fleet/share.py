"""Sharing spot capacity between the jobs of a policy, one worker at a time to whoever gains most from it.

Tiers, strictly in this order, and by gain within a tier:

1. jobs with a deadline up to the workers they need on average until then (gain: need / workers so far);
2. one worker for a job without deadline that was not served for `STARVATION_SECONDS` (aging: longest wait first);
3. jobs with a deadline beyond their need, up to their width (diminishing gain);
4. jobs without deadline, evenly per submitter: the r-th worker of one submitter comes after the (r-1)-th of another.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray
from evalfleet_scaling.fleet.accept import Accepted, Standing
from evalfleet_scaling.fleet.tables import Fleet

STARVATION_SECONDS = 3600.0
_TIER = 1e6  # larger than any gain or rank within a tier


@dataclass(frozen=True, slots=True)
class SpotShare:
    """Spot workers each job may add, and spot workers to take back for those in greater need."""

    offered: IntArray  # [J, Z] additional workers per pool
    reclaim: IntArray  # rows of the worker table
    short: IntArray  # [J] additional spot workers wanted but not available
    most_spot: IntArray  # [J] most spot workers the job could have had at one moment so far


def share_spot(fleet: Fleet, accepted: Accepted) -> SpotShare:
    """Distribute the room of the spot pools."""
    wanted = _wanted(fleet, accepted)
    total = int(fleet.pools.room[fleet.pools.spot].sum())
    owner, key = _claims(fleet, accepted, wanted, total)
    if len(owner) > total:
        served = np.argsort(key, kind="stable")
        winners, losers = served[:total], served[total:]
    else:
        winners, losers = np.arange(len(owner)), np.zeros(0, dtype=np.int64)
    granted = np.bincount(owner[winners], minlength=len(wanted)).astype(np.int64)
    urgency = np.full(len(wanted), np.inf)
    np.minimum.at(urgency, owner[winners], key[winners])
    offered = _place(fleet, granted, np.argsort(urgency, kind="stable"))
    pressing = int((key[losers] < 2 * _TIER).sum())
    short = wanted - offered.sum(axis=1)
    return SpotShare(offered, _reclaim(fleet, accepted, pressing), short, _most_spot(fleet, offered))


def _most_spot(fleet: Fleet, offered: IntArray) -> IntArray:
    """[J] larger of what could be had before and of the spot workers that it has or may add now."""
    before = fleet.snapshot.memory.most_spot
    known = np.array([before.get(job.name, 0) for job in fleet.jobs.jobs] if before else 0)
    result: IntArray = np.minimum(np.maximum(known, _held(fleet) + offered.sum(axis=1)), fleet.jobs.width)
    return result


def _held(fleet: Fleet) -> IntArray:
    on_spot = fleet.pools.is_spot[fleet.workers.pool]
    return np.bincount(fleet.workers.job[on_spot], minlength=len(fleet.jobs.work)).astype(np.int64)


def _wanted(fleet: Fleet, accepted: Accepted) -> IntArray:
    """[J] additional spot workers up to the width."""
    return np.where(accepted.active, np.maximum(fleet.jobs.width - _held(fleet), 0), 0)


def _claims(fleet: Fleet, accepted: Accepted, wanted: IntArray, total: int) -> tuple[IntArray, FloatArray]:
    """One entry per wanted worker: the job and its sort key (smaller is served first)."""
    wanted = np.minimum(wanted, total + 1)  # one more than there is shows who is short
    owner = np.repeat(np.arange(len(wanted)), wanted)
    first = np.cumsum(wanted) - wanted
    held = _held(fleet)
    nth = np.arange(len(owner)) - first[owner] + held[owner] + 1
    jobs = fleet.jobs
    need = np.where(np.isfinite(jobs.left), jobs.work / np.maximum(jobs.left, fleet.tick), 0.0)
    gain = np.minimum(need[owner] / nth, 1e3)
    key = np.where(nth <= np.ceil(need)[owner], 0.0, 2 * _TIER) + 1e3 - gain
    without = np.flatnonzero((accepted.standing == Standing.NO_DEADLINE)[owner])
    if len(without):
        owners, nth = owner[without], nth[without]
        waited = jobs.waited[owners]
        rank = _rank_in_submitter(fleet, (owners, nth), held)
        starving = (waited >= STARVATION_SECONDS) & (nth == 1)
        key[without] = np.where(starving, _TIER + _TIER / (1 + waited), 3 * _TIER + rank)
    return owner, key


def _rank_in_submitter(fleet: Fleet, claims: tuple[IntArray, IntArray], held: IntArray) -> FloatArray:
    """Position of each claim (job, nth worker) among those of its submitter, after what the submitter holds already."""
    jobs, (owner, nth) = fleet.jobs, claims
    submitter = jobs.submitter[owner]
    order = np.lexsort((jobs.submitted[owner], nth, -jobs.priority[owner], submitter))
    grouped = submitter[order]
    rank = np.empty(len(owner))
    holding = np.bincount(jobs.submitter, weights=held, minlength=1)
    rank[order] = np.arange(len(owner)) - np.searchsorted(grouped, grouped, side="left") + holding[grouped]
    return np.minimum(rank, _TIER - 1)


def _place(fleet: Fleet, granted: IntArray, order: IntArray) -> IntArray:
    """Concrete pools, best first, for jobs in `order`; first at most half of a job in one pool, then what is left."""
    pools, allowed = fleet.pools, fleet.jobs.allowed
    offered = np.zeros((len(granted), len(pools.names)), dtype=np.int64)
    if not granted.any():
        return offered
    remaining = granted[order]
    room = pools.room.copy()
    several = int((pools.room[pools.spot] > 0).sum()) > 1
    half = -(-fleet.jobs.width[order] // 2) if several else fleet.jobs.width[order]
    for most in (half, fleet.jobs.width[order]):
        for pool in pools.spot.tolist():
            want = np.minimum(remaining, np.maximum(most - offered[order, pool], 0))
            if allowed is not None:
                want = np.where(allowed[order, pool], want, 0)
            given = np.clip(room[pool] - (np.cumsum(want) - want), 0, want)
            offered[order, pool] += given
            remaining = remaining - given
            room[pool] -= given.sum()
    return offered


def _reclaim(fleet: Fleet, accepted: Accepted, pressing: int) -> IntArray:
    """Spot workers of jobs without deadline to give up for claims of tiers 1 and 2: from the largest holders first."""
    workers = fleet.workers
    if pressing == 0 or len(workers.job) == 0:
        return np.zeros(0, dtype=np.int64)
    yields = (accepted.standing == Standing.NO_DEADLINE)[workers.job] & fleet.pools.is_spot[workers.pool]
    # The first worker of a job stays: taking it would only move the starvation.
    rows = np.flatnonzero(yields & (workers.position > 0))
    return rows[np.argsort(-workers.position[rows], kind="stable")][:pressing]
