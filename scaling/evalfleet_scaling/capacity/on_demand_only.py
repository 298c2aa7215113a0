"""OnDemandOnly: every slot on the guaranteed pool from the first moment."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left
from evalfleet_scaling.capacity.slots import ALL, fill_fallback
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class OnDemandOnly:
    """Finishes as early as money can buy; the cost that all others are compared with."""

    @property
    def name(self) -> StrategyName:
        """OnDemandOnly."""
        return StrategyName.ON_DEMAND_ONLY

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Fill every slot with on-demand, whatever ran there."""
        on_demand = np.where(view.on_demand & view.usable, view.slot_pool, EMPTY)
        slack = capacity_left(view, 1.0) - view.work_left
        return CapacityPlan(fill_fallback(view, on_demand, np.full(len(view.width), ALL)), slack < 0, slack)
