"""The LP bound of one spot pool beside on-demand, for many windows at once, by Lagrangian decomposition.

The LP of `linear.py` with one spot pool separates: put spot workers into slots 1, 2, ... from below and on-demand into
slots P, P-1, ... from above. Then slot i runs spot exactly when s_t >= i and on-demand exactly when o_t >= P-i+1, slots
never collide, and the start-ups of all slots add up to the increases of s and o. With a multiplier for the work
constraint every slot is a shortest path over three states (idle, spot, on-demand), solved for all slots and windows by
one pass over the ticks. The dual function is concave and piecewise linear in the multiplier and equals the LP optimum
at its maximum (strong duality), found by bisection on its slope. Every value returned is a valid lower bound.
"""

import numpy as np

from evalfleet_scaling.capacity.view import FloatArray, IntArray

_BISECTIONS = 40


def slotwise_bound(
    counts: IntArray,
    work: FloatArray,
    width: int,
    *,
    tick_seconds: float,
    startup_seconds: float,
    spot_price: FloatArray,
    on_demand_price: float,
) -> FloatArray:
    """Least cost of every window in currency units; inf where the work cannot be done.

    Args:
        counts: [T, J] spot workers obtainable.
        work: [J] GPU-seconds to be done within the T ticks.
        width: slots P.
        tick_seconds: g.
        startup_seconds: d, lost whenever a worker starts.
        spot_price: [T, J] per hour.
        on_demand_price: per hour.
    """
    levels = np.arange(1, width + 1)
    top = int(counts.max(initial=0))
    distinct = np.minimum(levels, top + 1)  # slots above every count are alike
    level, multiplicity = np.unique(distinct, return_counts=True)
    available = counts[:, :, None] >= level[None, None, :]
    g_hours = tick_seconds / 3600.0
    costs = (g_hours * spot_price, g_hours * on_demand_price)
    low = np.zeros(counts.shape[1])
    high = np.full(counts.shape[1], 1.0)
    # Enough to make every slot run on-demand throughout: the work of the dearest possible plan.
    most = (width * (counts.shape[0] * tick_seconds - startup_seconds)) if counts.shape[0] else 0.0
    feasible = work <= most + 1e-6
    for _ in range(30):
        _, done = _inner(available, multiplicity, high, costs, tick_seconds, startup_seconds)
        short = feasible & (done < work - 1e-6)
        if not short.any():
            break
        high = np.where(short, high * 4, high)
    best = np.full(counts.shape[1], -np.inf)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        value, done = _inner(available, multiplicity, middle, costs, tick_seconds, startup_seconds)
        best = np.maximum(best, value + middle * work)
        low = np.where(done < work, middle, low)
        high = np.where(done < work, high, middle)
    return np.where(feasible, np.maximum(best, 0.0), np.inf)


def _inner(
    available: np.ndarray,
    multiplicity: IntArray,
    price_of_work: FloatArray,
    costs: tuple[FloatArray, float],
    tick_seconds: float,
    startup_seconds: float,
) -> tuple[FloatArray, FloatArray]:
    """Minimum over plans of cost - price_of_work * work: its value [J] and the work of one minimiser [J]."""
    spot_cost, on_demand_cost = costs
    ticks, runs, levels = available.shape
    lam = price_of_work[:, None]
    gain, start = lam * tick_seconds, lam * startup_seconds
    idle, spot, od = np.zeros((runs, levels)), np.full((runs, levels), np.inf), np.full((runs, levels), np.inf)
    wi, ws, wo = np.zeros((runs, levels)), np.zeros((runs, levels)), np.zeros((runs, levels))
    for t in range(ticks):
        c_spot = spot_cost[t][:, None] - gain
        c_od = on_demand_cost - gain
        # entering from the cheapest other state, paying the start-up
        out, wout = _least(idle, wi, od, wo)
        enter, went = _least(out + start, wout - startup_seconds, spot, ws)
        new_spot = np.where(available[t], enter + c_spot, np.inf)
        new_ws = went + tick_seconds
        out, wout = _least(idle, wi, spot, ws)
        enter, went = _least(out + start, wout - startup_seconds, od, wo)
        new_od, new_wo = enter + c_od, went + tick_seconds
        out, wout = _least(idle, wi, spot, ws)
        idle, wi = _least(out, wout, od, wo)
        spot, ws, od, wo = new_spot, new_ws, new_od, new_wo
    out, wout = _least(idle, wi, spot, ws)
    out, wout = _least(out, wout, od, wo)
    return (out * multiplicity).sum(axis=1), (wout * multiplicity).sum(axis=1)


def _least(a: FloatArray, wa: FloatArray, b: FloatArray, wb: FloatArray) -> tuple[FloatArray, FloatArray]:
    better = b < a
    return np.where(better, b, a), np.where(better, wb, wa)
