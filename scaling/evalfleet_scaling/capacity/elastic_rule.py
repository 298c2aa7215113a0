"""ElasticRule: every slot may lose two start-ups; elasticity decides between a progress line and pure spot."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.capacity.safety_net import capacity_left, fill_when_critical, is_critical, straight_line
from evalfleet_scaling.capacity.slots import (
    fill,
    fill_fallback,
    fill_spot,
    first_by,
    spot_order,
    whole,
    whole_up,
)
from evalfleet_scaling.capacity.view import EMPTY, BoolArray, CapacityPlan, CapacityView, IntArray
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class ElasticRule:
    """The baseline rule of the default strategy; `switch_ratio` is the share of work below which slack is thick."""

    switch_ratio: float = 0.7

    @property
    def name(self) -> StrategyName:
        """ElasticRule."""
        return StrategyName.ELASTIC_RULE

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Empty slots take spot; on-demand follows the line when slack is thin, and is not started when it is thick."""
        critical = is_critical(view)
        thick = view.work_left <= self.switch_ratio * capacity_left(view, 2.0)
        done = view.work_total - view.work_left
        ahead = done > straight_line(view)
        slot_pool = fill_spot(view, np.where(view.usable, view.slot_pool, EMPTY))
        started_spot = (slot_pool != view.slot_pool).any(axis=1)
        slot_pool = _swap(view, slot_pool, (thick | ahead) & ~started_spot)
        slot_pool = _follow_line(view, slot_pool, ~thick & ~ahead)
        far_ahead = done > straight_line(view, 2.0 * view.fallback_startup)
        slot_pool = _release_surplus(view, slot_pool, far_ahead, thick)
        slack = capacity_left(view, 2.0) - view.work_left
        return CapacityPlan(fill_when_critical(view, slot_pool, critical), critical, slack)


def _even_pace(view: CapacityView) -> IntArray:
    span = np.maximum(view.elapsed_seconds + view.left_seconds, 1.0)
    return whole_up(view.work_total / span)


def _swap(view: CapacityView, slot_pool: IntArray, allowed: BoolArray) -> IntArray:
    running = slot_pool == view.fallback
    offered = view.spot_offered
    count = np.where(allowed, np.minimum(offered.sum(axis=1), running.sum(axis=1)), 0)
    return fill(slot_pool, first_by(running, count, -view.startup_left), spot_order(view), offered)


def _follow_line(view: CapacityView, slot_pool: IntArray, behind: BoolArray) -> IntArray:
    running = (slot_pool >= 0).sum(axis=1)
    return fill_fallback(view, slot_pool, np.where(behind, _even_pace(view) - running, 0))


def _release_surplus(view: CapacityView, slot_pool: IntArray, far_ahead: BoolArray, thick: BoolArray) -> IntArray:
    """Thin slack keeps what the even pace needs; thick slack keeps none."""
    running = slot_pool == view.fallback
    keep = np.where(thick, 0, _even_pace(view) - ((slot_pool >= 0) & ~running).sum(axis=1))
    surplus = whole((running.sum(axis=1) - np.maximum(keep, 0)).astype(float))
    count = np.where(far_ahead, surplus, 0)
    return np.where(first_by(running, count, -view.startup_left), EMPTY, slot_pool)
