"""The one interface of all capacity strategies, and the check that no plan exceeds what is offered."""

from dataclasses import replace
from typing import Protocol

import numpy as np

from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView, IntArray
from evalfleet_scaling.model import StrategyName


class Strategy(Protocol):
    """Decides from observed state alone: no clock, no randomness, no memory of its own."""

    @property
    def name(self) -> StrategyName:
        """Name in ScalingPolicy and in tables."""
        ...

    def decide(self, view: CapacityView) -> CapacityPlan:
        """The pool each slot of each job should have now."""
        ...


def within_offers(view: CapacityView, plan: CapacityPlan) -> CapacityPlan:
    """The plan without starts beyond a job's width or a pool's offer; on-demand starts spill over to the next pool.

    Workers that already run and stay are never touched, so that a shrinking quota stops nobody.
    """
    wanted = np.where(view.usable | (plan.slot_pool == view.slot_pool), plan.slot_pool, EMPTY)
    kept = np.where(wanted == view.slot_pool, wanted, EMPTY)
    starting = np.where(wanted == view.slot_pool, EMPTY, wanted)
    room = view.offered.copy()
    for pool in range(view.offered.shape[1]):
        starting, room = _admit(starting, room, pool)
    spilled = (wanted >= 0) & (kept == EMPTY) & (starting == EMPTY) & ~view.is_spot[wanted]
    if spilled.any():
        for pool in np.argsort(view.price[:, ~view.is_spot].mean(axis=0), kind="stable"):
            on_demand = int(np.flatnonzero(~view.is_spot)[pool])
            moved, room = _admit(np.where(spilled, on_demand, EMPTY), room, on_demand)
            starting = np.where(moved >= 0, moved, starting)
            spilled = spilled & (moved == EMPTY)
    return replace(plan, slot_pool=np.where(kept >= 0, kept, starting))


def _admit(starting: IntArray, room: IntArray, pool: int) -> tuple[IntArray, IntArray]:
    """Keep the first `room[j, pool]` starts of every row on the pool, drop the others; returns what room is left."""
    mine = starting == pool
    excess = mine & (np.cumsum(mine, axis=1) > room[:, pool : pool + 1])
    left = room.copy()
    left[:, pool] = np.maximum(room[:, pool] - mine.sum(axis=1), 0)
    return np.where(excess, EMPTY, starting), left
