"""StaticMix: a fixed share of the slots on spot, the rest on on-demand."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical
from evalfleet_scaling.capacity.slots import fill_fallback, fill_spot, whole_up
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class StaticMix:
    """What most clusters do today; `spot_percent` of the width waits for spot."""

    spot_percent: int = 50

    @property
    def name(self) -> StrategyName:
        """StaticMix."""
        return StrategyName.STATIC_MIX

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Keep the on-demand share filled; the spot share takes what is offered."""
        on_demand_share = whole_up(view.width * (100 - self.spot_percent) / 100.0)
        present = np.where(view.usable, view.slot_pool, EMPTY)
        missing = on_demand_share - (view.on_demand & view.usable).sum(axis=1)
        slot_pool = fill_fallback(view, present, missing)
        room = (view.width - on_demand_share) - (view.on_spot & view.usable).sum(axis=1)
        slot_pool = fill_spot(view, slot_pool, room)
        critical = is_critical(view)
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)
