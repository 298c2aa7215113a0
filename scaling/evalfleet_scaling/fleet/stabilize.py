"""Stabilisation: what may shrink or grow only after it was wanted for a while, and how many removals a minute.

Limits, budgets, suspension and swaps are not held up; nor are starts that a promise or a wait demands.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, IntArray
from evalfleet_scaling.fleet.accept import Accepted
from evalfleet_scaling.fleet.slots import Slots, held_slots, joined, nth_of_job, selected, unused_workers
from evalfleet_scaling.fleet.tables import Fleet

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Stabilized:
    """Slots after stabilisation, and what the next decision must remember."""

    slots: Slots
    surplus_since: dict[str, float]
    shortage_since: dict[str, float]
    removals_seconds: tuple[float, ...]
    next_change_seconds: float | None  # when a held change becomes due


def stabilize(fleet: Fleet, accepted: Accepted, wanted: Slots, critical: BoolArray, reclaimed: IntArray) -> Stabilized:
    """Hold voluntary removals and starts until they have been wanted for the policy's windows."""
    limits, memory = fleet.snapshot.limits, fleet.snapshot.memory
    recent = tuple(moment for moment in memory.removals_seconds if moment > fleet.now - _MINUTE)
    candidates = _voluntary(fleet, accepted, wanted, reclaimed)
    surplus_since = _since(fleet, np.unique(fleet.workers.job[candidates]), memory.surplus_since)
    down = limits.scale_down_stabilization_seconds
    ripe = _ripe(fleet, fleet.workers.job[candidates], surplus_since, down)
    if limits.scale_down_workers_per_minute is not None:
        ripe &= np.cumsum(ripe) <= limits.scale_down_workers_per_minute - len(recent)
    slots = joined(wanted, held_slots(fleet, candidates[~ripe]))

    starts = (slots.worker < 0) & ~slots.must & ~critical[slots.job]
    shortage_since = _since(fleet, np.unique(slots.job[starts]), memory.shortage_since)
    up = limits.scale_up_stabilization_seconds
    if up > 0:
        early = starts.copy()
        early[starts] = ~_ripe(fleet, slots.job[starts], shortage_since, up)
        slots = selected(slots, ~early)
    return Stabilized(
        slots,
        surplus_since if down > 0 else {},
        shortage_since if up > 0 else {},
        recent + (fleet.now,) * int(ripe.sum()),
        _next_change(fleet, surplus_since, shortage_since),
    )


def _voluntary(fleet: Fleet, accepted: Accepted, wanted: Slots, reclaimed: IntArray) -> IntArray:
    """Workers to go without a replacement, of active jobs, within the width; for each job the first that may stay."""
    workers = fleet.workers
    gone = unused_workers(fleet, wanted)
    job = workers.job[gone]
    inside = accepted.active[job] & (workers.position[gone] < fleet.jobs.width[job]) & ~np.isin(gone, reclaimed)
    gone = gone[inside]
    starts = np.bincount(wanted.job[wanted.worker < 0], minlength=len(fleet.jobs.work))
    removed = np.bincount(workers.job[gone], minlength=len(fleet.jobs.work))
    nth = nth_of_job(workers.job[gone])
    return gone[nth < (removed - starts)[workers.job[gone]]]


def _since(fleet: Fleet, jobs: IntArray, before: object) -> dict[str, float]:
    known = before if isinstance(before, dict) else {}
    now = fleet.now
    names = [fleet.jobs.jobs[row].name for row in jobs.tolist()]
    return {name: min(known.get(name, now), now) for name in names} if known else dict.fromkeys(names, now)


def _ripe(fleet: Fleet, jobs: IntArray, since: dict[str, float], window: float) -> BoolArray:
    if window <= 0:
        return np.ones(len(jobs), dtype=np.bool_)
    due = [fleet.now - since[fleet.jobs.jobs[row].name] >= window for row in jobs.tolist()]
    return np.array(due, dtype=np.bool_)


def _next_change(fleet: Fleet, surplus: dict[str, float], shortage: dict[str, float]) -> float | None:
    limits = fleet.snapshot.limits
    moments = [since + limits.scale_down_stabilization_seconds for since in surplus.values()]
    moments += [since + limits.scale_up_stabilization_seconds for since in shortage.values()]
    return min((moment for moment in moments if moment > fleet.now), default=None)
