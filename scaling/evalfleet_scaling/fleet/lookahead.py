"""The fleet's lookahead: on-demand workers that must run now so that every promise can still be kept later.

Every job's strategy guards its own deadline as if on-demand capacity were there for it alone. When the widths of all
promised jobs together exceed the quota, it looks one tick ahead: promises are filled into the quota from `now + g`
on, and work that does not fit there must be done before, so it starts now.
"""

from dataclasses import dataclass, replace

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray
from evalfleet_scaling.fleet.accept import Accepted, promises_of
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.promises import ROUNDING, Promises, minimum_satisfactory_shares


@dataclass(frozen=True, slots=True)
class Lookahead:
    """What contention for on-demand capacity means for each job."""

    effective_left: FloatArray  # [J] seconds until the deadline at full width that the quota really has for the job
    must_start: IntArray  # [J] further on-demand workers that must start now
    must_keep: IntArray  # [J] on-demand workers, of those it has, that must stay
    shares: FloatArray  # [J] minimum satisfactory share of promised jobs; nan for others
    contended: bool


def look_ahead(fleet: Fleet, accepted: Accepted) -> Lookahead:
    """Look one tick ahead over all promised jobs."""
    count = len(fleet.jobs.work)
    rows = np.flatnonzero(accepted.guaranteed)
    start_cost = float(fleet.pools.startup[fleet.pools.fallback]) + fleet.tick
    promises = promises_of(fleet, rows, start_cost)
    contended = bool(promises.width.sum() > fleet.quota)
    left, shares = fleet.jobs.left.copy(), np.full(count, np.nan)
    must_start, must_keep = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    if contended and len(rows):
        after = _after_one_tick(promises, fleet.tick)
        ahead = minimum_satisfactory_shares(after, fleet.quota, start=fleet.tick)
        idle = minimum_satisfactory_shares(_without_running(promises), fleet.quota, start=fleet.tick)
        urgent = np.ceil(ahead.residual / fleet.tick - ROUNDING)
        must_start[rows] = np.clip(urgent, 0, promises.width - promises.running).astype(np.int64)
        needed = np.ceil(idle.residual / fleet.tick - ROUNDING)
        must_keep[rows] = np.clip(needed, 0, promises.running).astype(np.int64)
        left[rows] = np.minimum(promises.deadline, ahead.effective_seconds + fleet.tick)
        shares[rows] = ahead.workers
    elif len(rows):
        shares[rows] = minimum_satisfactory_shares(promises, fleet.quota).workers
    return Lookahead(left, must_start, must_keep, shares, contended)


def _after_one_tick(promises: Promises, tick: float) -> Promises:
    """The promises a tick later when only the on-demand workers that run now have worked."""
    done = np.maximum(promises.running * tick - promises.running_delay, 0.0)
    delay = np.maximum(promises.running_delay - promises.running * tick, 0.0)
    return replace(promises, work=np.maximum(promises.work - done, 0.0), running_delay=delay)


def _without_running(promises: Promises) -> Promises:
    nothing = np.zeros(len(promises))
    return replace(promises, running=nothing, running_delay=nothing)
