"""Utility of SkyNomad (NSDI'27): U = V * eta - C - E/L, with the value of an hour V growing as the deadline nears."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical
from evalfleet_scaling.capacity.slots import ALL, fill, fill_fallback, first_by, spot_order
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView, FloatArray
from evalfleet_scaling.model import StrategyName

_UNKNOWN_LIFETIME_SECONDS = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class Utility:
    """Choose for every slot the pool of the largest utility; idle is worth nothing.

    V = C_od * theta / theta~ with theta the pace still needed and theta~ the pace planned at admission; eta the share
    of a worker's life that is not start-up; C the price; L the predicted life; E the price of moving, one start-up.
    """

    @property
    def name(self) -> StrategyName:
        """Utility."""
        return StrategyName.UTILITY

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Spot with positive utility first, on-demand where its own is positive, else idle."""
        value = self._value(view)
        spot = np.where(view.is_spot[None, :], self._utility(view, value), -np.inf)
        on_demand = value - view.price[:, view.fallback]
        slot_pool = np.where(view.usable, view.slot_pool, EMPTY)
        offered = np.where(spot > 0, view.spot_offered, 0)
        move_cost = view.fallback_startup / self._life(view)[:, view.is_spot].max(axis=1, initial=1.0)
        better = spot.max(axis=1) > on_demand + move_cost * view.price[:, view.fallback]
        on_fallback = slot_pool == view.fallback
        candidates = (view.usable & (slot_pool == EMPTY)) | (on_fallback & better[:, None])
        count = np.minimum(candidates.sum(axis=1), offered.sum(axis=1))
        chosen = first_by(candidates, count, np.where(on_fallback, 1.0, 0.0))
        slot_pool = fill(slot_pool, chosen, spot_order(view), offered)
        slot_pool = fill_fallback(view, slot_pool, np.where(on_demand > 0, ALL, 0))
        critical = is_critical(view)
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)

    @staticmethod
    def _value(view: CapacityView) -> FloatArray:
        span = np.maximum(view.elapsed_seconds + view.left_seconds, 1.0)
        needed = view.work_left / np.maximum(view.left_seconds, view.tick_seconds)
        planned = np.maximum(view.work_total / span, 1e-9)
        result: FloatArray = view.price[:, view.fallback] * needed / planned
        return result

    @staticmethod
    def _life(view: CapacityView) -> FloatArray:
        return np.where(np.isfinite(view.lifetime), view.lifetime, _UNKNOWN_LIFETIME_SECONDS)

    def _utility(self, view: CapacityView, value: FloatArray) -> FloatArray:
        life = self._life(view)
        useful = np.maximum(1.0 - view.startup / np.maximum(life, 1.0), 0.0)
        result: FloatArray = value[:, None] * useful - view.price
        return result
