"""Exact optimum of one slot (or a gang that moves as one) that knows the future, by dynamic programming.

Forward over ticks; a state is (idle, or a pool with start-up left), the value the least cost for every amount of work
done so far, in units of gcd(g, d). Whole ticks are billed, as in the replay.
"""

from dataclasses import dataclass
from math import gcd, inf

import numpy as np

from evalfleet_scaling.capacity.view import FloatArray, IntArray
from evalfleet_scaling.errors import ScalingInputError


@dataclass(frozen=True, slots=True)
class SlotWindow:
    """One window: availability and spot prices per hour [T, Zs], whole seconds of tick and start-up."""

    counts: IntArray
    spot_price: FloatArray
    on_demand_price: float
    work_seconds: int
    tick_seconds: int
    startup_seconds: int


def single_slot_optimum(window: SlotWindow) -> float:
    """Least cost in currency units of doing the work by the end of the window; inf when impossible.

    Raises:
        ScalingInputError: when tick or start-up are not positive whole seconds.
    """
    if window.tick_seconds <= 0 or window.startup_seconds < 0 or window.work_seconds < 0:
        raise ScalingInputError("tick_seconds, startup_seconds and work_seconds must be whole and not negative")
    unit = gcd(window.tick_seconds, window.startup_seconds)
    tick, startup = window.tick_seconds // unit, window.startup_seconds // unit
    goal = -(-window.work_seconds // unit)
    pools = window.counts.shape[1] + 1
    delays = _delays(startup, tick)
    idle = np.full(goal + 1, inf)
    idle[0] = 0.0
    running = np.full((pools, len(delays), goal + 1), inf)
    for at in range(len(window.counts)):
        best = np.minimum(idle, running.reshape(-1, goal + 1).min(axis=0))
        new = np.full_like(running, inf)
        for pool in range(pools):
            if pool < pools - 1 and window.counts[at, pool] <= 0:
                continue
            price = window.on_demand_price if pool == pools - 1 else float(window.spot_price[at, pool])
            cost = price * window.tick_seconds / 3600.0
            for index, delay in enumerate(delays):
                before = np.minimum(running[pool, index], best) if index == 0 else running[pool, index]
                after = min(index + 1, len(delays) - 1)
                moved = _advance(before, max(tick - delay, 0)) + cost
                np.minimum(new[pool, after], moved, out=new[pool, after])
        idle, running = best, new
    return float(min(idle[goal], running[:, :, goal].min()))


def _delays(startup: int, tick: int) -> list[int]:
    """Start-up left at the beginning of a tick, from a fresh start down to 0."""
    delays = [startup]
    while delays[-1] > 0:
        delays.append(max(delays[-1] - tick, 0))
    return delays


def _advance(cost: FloatArray, units: int) -> FloatArray:
    """The same costs after `units` more work; work beyond the goal counts as the goal."""
    if units == 0:
        return cost
    moved = np.full_like(cost, inf)
    units = min(units, len(cost) - 1)
    moved[units:] = cost[: len(cost) - units]
    moved[-1] = cost[len(cost) - 1 - units :].min()
    return moved
