"""Builders of capacity views and scenarios for tests."""

import numpy as np

from evalfleet_lab.simulate.scenario import Scenario
from evalfleet_scaling.capacity.view import EMPTY, CapacityView

SPOT, ON_DEMAND = 0, 1
HOUR = 3600.0


def view(
    slots=None,
    *,
    left=10 * HOUR,
    elapsed=0.0,
    work=8 * HOUR,
    total=None,
    width=4,
    offered=4,
    steady=None,
    startup_left=None,
    on_demand_offered=100,
    spot_price=1.0,
    lifetime=np.inf,
    launches=0,
    failures=0,
    critical=False,
    seen=None,
    tick=300.0,
    startup=600.0,
):
    """One job on one spot pool (0) and one on-demand pool (1); `slots` are pool indices, EMPTY for none."""
    slot_pool = np.full((1, width), EMPTY) if slots is None else np.array([slots])
    return CapacityView(
        tick_seconds=tick,
        elapsed_seconds=np.array([elapsed]),
        left_seconds=np.array([float(left)]),
        work_left=np.array([float(work)]),
        work_total=np.array([float(work if total is None else total)]),
        width=np.array([width]),
        slot_pool=slot_pool,
        startup_left=np.zeros(slot_pool.shape) if startup_left is None else np.array([startup_left], dtype=float),
        offered=np.array([[offered, on_demand_offered]]),
        steady=np.array([[offered if steady is None else steady, on_demand_offered]]),
        price=np.array([[spot_price, 3.0]]),
        startup=np.full((1, 2), startup),
        lifetime=np.array([[lifetime, np.inf]]),
        throughput=np.ones(2),
        is_spot=np.array([True, False]),
        fallback=ON_DEMAND,
        fallback_launches=np.array([float(launches)]),
        fallback_failures=np.array([float(failures)]),
        was_critical=np.array([critical]),
        most_spot=np.array([width if seen is None else seen]),
    )


def scenario(counts, *, work, width, tick=300.0, startup=600.0, steady=None, price=1.0):
    """One run over counts [T] or [T, Zs]; on-demand costs three times spot."""
    series = np.asarray(counts)
    series = series[:, None] if series.ndim == 1 else series
    lasting = series if steady is None else np.asarray(steady)[:, None]
    return Scenario(
        tick_seconds=tick,
        counts=series[:, None, :],
        steady=lasting[:, None, :],
        spot_price=np.full((len(series), 1, series.shape[1]), price),
        on_demand_price=3.0,
        work=np.array([float(work)]),
        deadline_ticks=len(series),
        width=width,
        startup_seconds=startup,
    )
