"""SpotHedge of SkyServe (arXiv 2411.01438): more spot than needed, on-demand for what is not ready yet."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical
from evalfleet_scaling.capacity.slots import fill_fallback, fill_spot, first_by, whole_up
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class SpotHedge:
    """A serving policy as a baseline: holds a constant pace of `work/time` workers, with `extra` spot on top."""

    extra: int = 2

    @property
    def name(self) -> StrategyName:
        """SpotHedge."""
        return StrategyName.SPOT_HEDGE

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Spot up to pace + extra; on-demand = pace + extra - ready spot, at most the pace; surplus is released."""
        span = np.maximum(view.left_seconds, view.tick_seconds)
        pace = np.minimum(whole_up(view.work_left / span), view.width)
        present = np.where(view.usable, view.slot_pool, EMPTY)
        spot = (view.on_spot & view.usable).sum(axis=1)
        ready = (view.on_spot & view.usable & (view.startup_left <= 0)).sum(axis=1)
        slot_pool = fill_spot(view, present, np.minimum(pace + self.extra, view.width) - spot)
        target = np.clip(pace + self.extra - ready, 0, pace)
        on_demand = slot_pool == view.fallback
        surplus = np.maximum(on_demand.sum(axis=1) - target, 0)
        slot_pool = np.where(first_by(on_demand, surplus, -view.startup_left), EMPTY, slot_pool)
        slot_pool = fill_fallback(view, slot_pool, target - (slot_pool == view.fallback).sum(axis=1))
        critical = is_critical(view)
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)
