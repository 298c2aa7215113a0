"""UniformProgress of "Can't Be Late" (NSDI'24, 5.2.2): stay on a straight line from admission to deadline."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical, straight_line
from evalfleet_scaling.capacity.slots import ALL, fill, fill_fallback, fill_spot, first, spot_order
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class UniformProgress:
    """On spot stay; idle take spot, else on-demand when behind the line; back to spot when far enough ahead.

    `hysteresis_startups` is how far ahead of the line a job must be, in start-ups, before it leaves on-demand.
    The rule moves all slots of a job alike (a gang) but fills what is offered; on-demand is never swapped for nothing.
    """

    hysteresis_startups: float = 2.0

    @property
    def name(self) -> StrategyName:
        """UniformProgress."""
        return StrategyName.UNIFORM_PROGRESS

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Follow the line; the safety net is the latest safe moment of on-demand."""
        done = view.work_total - view.work_left
        behind = done < straight_line(view)
        ahead = done > straight_line(view, self.hysteresis_startups * view.fallback_startup)
        slot_pool = fill_spot(view, np.where(view.usable, view.slot_pool, EMPTY))
        room = view.spot_offered.sum(axis=1) - (slot_pool != view.slot_pool).sum(axis=1)
        on_demand = slot_pool == view.fallback
        swapped = first(on_demand, np.where(ahead, np.maximum(room, 0), 0))
        taken = view.spot_offered - _started(view, slot_pool)
        slot_pool = fill(slot_pool, swapped, spot_order(view), np.maximum(taken, 0))
        slot_pool = fill_fallback(view, slot_pool, np.where(behind, ALL, 0))
        critical = is_critical(view)
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)


def _started(view: CapacityView, slot_pool: np.ndarray) -> np.ndarray:
    """[J, Z] starts already decided on every pool."""
    fresh = (slot_pool != view.slot_pool)[:, :, None]
    pools: np.ndarray = np.arange(view.offered.shape[1])
    result: np.ndarray = (fresh & (slot_pool[:, :, None] == pools)).sum(axis=1)
    return result
