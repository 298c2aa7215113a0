"""SpotOnly: never on-demand, whatever the deadline."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left
from evalfleet_scaling.capacity.slots import fill_spot
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class SpotOnly:
    """The cheapest hour and no promise: for work without a deadline."""

    @property
    def name(self) -> StrategyName:
        """SpotOnly."""
        return StrategyName.SPOT_ONLY

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Fill empty slots with spot; workers of other pools stay until they are done."""
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_spot(view, np.where(view.usable, view.slot_pool, EMPTY)), slack < 0, slack)
