"""Greedy: spot whenever it is offered, on-demand only from the latest safe moment on."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical
from evalfleet_scaling.capacity.slots import fill_spot
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class Greedy:
    """Late on-demand: the simplest rule that keeps a deadline."""

    @property
    def name(self) -> StrategyName:
        """Greedy."""
        return StrategyName.GREEDY

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Wait for spot until waiting would cost the deadline."""
        critical = is_critical(view)
        slot_pool = fill_spot(view, np.where(view.usable & ~view.on_demand, view.slot_pool, EMPTY))
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)
