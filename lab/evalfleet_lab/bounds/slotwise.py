"""The LP bound of one spot pool beside on-demand, for many windows at once, by Lagrangian decomposition.

The LP of `linear.py` with one spot pool separates: put spot workers into slots 1, 2, ... from below and on-demand into
slots P, P-1, ... from above. Then slot i runs spot exactly when s_t >= i and on-demand exactly when o_t >= P-i+1, slots
never collide, and the start-ups of all slots add up to the increases of s and o. With a multiplier for the work
constraint every slot is a shortest path over its states (idle, spot, on-demand), solved for all slots and windows by
one pass over the ticks. The dual function is concave and piecewise linear in the multiplier and equals the LP optimum
at its maximum (strong duality), found by bisection on its slope. Every value returned is a valid lower bound.

A single slot (width 1) needs no separation and may have any number of spot pools.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.view import BoolArray, FloatArray, IntArray
from evalfleet_scaling.errors import ScalingInputError

_BISECTIONS = 36
_DOUBLINGS = 40


@dataclass(frozen=True, slots=True)
class Windows:
    """J windows of T ticks: counts and prices per hour [T, J, Zs], work [J] in GPU-seconds."""

    counts: IntArray
    spot_price: FloatArray
    on_demand_price: float
    work: FloatArray
    width: int
    tick_seconds: float
    startup_seconds: float


def slotwise_bound(windows: Windows) -> FloatArray:
    """Least cost [J] of every window in currency units; inf where the work cannot be done.

    Raises:
        ScalingInputError: for several spot pools and more than one slot, where the separation does not hold.
    """
    ticks, runs, pools = windows.counts.shape
    if pools > 1 and windows.width > 1:
        raise ScalingInputError("the slotwise bound holds for one spot pool or one slot: use linear_bound")
    most = windows.width * (ticks * windows.tick_seconds - windows.startup_seconds)
    feasible = windows.work <= most + 1e-6
    dual = _Dual(windows)
    low, high = np.zeros(runs), np.full(runs, 1e-4)
    for _ in range(_DOUBLINGS):
        short = feasible & (dual.at(high)[1] < windows.work - 1e-6)
        if not short.any():
            break
        high = np.where(short, high * 2, high)
    best = np.zeros(runs)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        value, done = dual.at(middle)
        best = np.maximum(best, value + middle * windows.work)
        low = np.where(done < windows.work, middle, low)
        high = np.where(done < windows.work, high, middle)
    return np.where(feasible, best, np.inf)


class _Dual:
    """Inner minimum of cost - multiplier * work over all plans, slot by slot."""

    def __init__(self, windows: Windows) -> None:
        self.w = windows
        levels = np.minimum(np.arange(1, windows.width + 1), int(windows.counts.max(initial=0)) + 1)
        level, self.alike = np.unique(levels, return_counts=True)  # slots above every count are alike
        self.available: BoolArray = windows.counts[:, :, :, None] >= level
        hours = windows.tick_seconds / 3600.0
        self.spot_cost = windows.spot_price * hours
        self.on_demand_cost = windows.on_demand_price * hours

    def at(self, multiplier: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Value and work [J] of one minimiser."""
        g, d = self.w.tick_seconds, self.w.startup_seconds
        ticks, runs, pools, levels = self.available.shape
        gain, start = multiplier[:, None] * g, multiplier[:, None] * d
        value = [np.zeros((runs, levels))] + [np.full((runs, levels), np.inf) for _ in range(pools + 1)]
        work = [np.zeros((runs, levels)) for _ in range(pools + 2)]
        for tick in range(ticks):
            best, best_work = _least(value, work)
            states = [(best, best_work)]
            for pool in range(pools + 1):
                entered, entered_work = best + start, best_work - d
                stays = value[pool + 1] <= entered
                cost = self.on_demand_cost if pool == pools else self.spot_cost[tick, :, pool, None]
                now = np.where(stays, value[pool + 1], entered) + cost - gain
                if pool < pools:
                    now = np.where(self.available[tick, :, pool], now, np.inf)
                states.append((now, np.where(stays, work[pool + 1], entered_work) + g))
            value, work = [state[0] for state in states], [state[1] for state in states]
        best, best_work = _least(value, work)
        return (best * self.alike).sum(axis=1), (best_work * self.alike).sum(axis=1)


def _least(value: list[FloatArray], work: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    best, best_work = value[0], work[0]
    for other, other_work in zip(value[1:], work[1:], strict=True):
        better = other < best
        best, best_work = np.where(better, other, best), np.where(better, other_work, best_work)
    return best, best_work
