"""The safety net of the baselines: the latest moment at which on-demand must fill every slot (note: cap and critical).

critical := W > P * (left - g - 2d); left again only when W < P * (left - g - 4d). Each slot loses at most one start and
one preemption after that moment, 2d together; g covers the delay until the next decision.
"""

import numpy as np

from evalfleet_scaling.capacity.slots import ALL, fill_fallback
from evalfleet_scaling.capacity.view import BoolArray, CapacityView, FloatArray, IntArray


def capacity_left(view: CapacityView, startups: float) -> FloatArray:
    """[J] GPU-seconds that all slots do until the deadline if each loses g and `startups` start-ups."""
    seconds = view.left_seconds - view.tick_seconds - startups * view.fallback_startup
    result: FloatArray = view.width * seconds * view.throughput[view.fallback]
    return result


def is_critical(view: CapacityView) -> BoolArray:
    """[J] whether nothing but the deadline counts now, with hysteresis on the way back."""
    enter = view.work_left > capacity_left(view, 2.0)
    stay = view.was_critical & (view.work_left >= capacity_left(view, 4.0))
    result: BoolArray = enter | stay
    return result


def fill_when_critical(view: CapacityView, slot_pool: IntArray, critical: BoolArray) -> IntArray:
    """Running workers stay; where critical every empty slot gets on-demand and nothing else is started."""
    on_demand = fill_fallback(view, np.where(view.usable, view.slot_pool, -1), np.full(len(view.width), ALL))
    return np.where(critical[:, None], on_demand, slot_pool)


def straight_line(view: CapacityView, at_seconds: FloatArray | float = 0.0) -> FloatArray:
    """[J] work done by a job that progresses evenly from admission to deadline, `at_seconds` from now."""
    span = np.maximum(view.elapsed_seconds + view.left_seconds, 1.0)
    result: FloatArray = view.work_total * np.minimum((view.elapsed_seconds + at_seconds) / span, 1.0)
    return result
