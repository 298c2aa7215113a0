"""From wanted slots to what may exist: budgets, minimums, limits and rates, in the order of what matters most.

Every constraint is a running sum over the slots in rank order, cut where it exceeds its limit, so that no combination
can exceed any of them and the most important slots are the last to go.
"""

from dataclasses import dataclass, replace
from math import inf

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.budget import may_use_on_demand, on_demand_to_finish, spending_rate_limit
from evalfleet_scaling.fleet.accept import Accepted, Standing
from evalfleet_scaling.fleet.mix import Mix
from evalfleet_scaling.fleet.money import Money
from evalfleet_scaling.fleet.slots import Slots, nth_of_job, selected
from evalfleet_scaling.fleet.tables import Fleet

_ENFORCED_AFTER_TICKS = 2.0  # workers may run on this long before a later decision has surely stopped them
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Enforced:
    """What exists after the decision, and what was held back by which limit."""

    slots: Slots
    held_back: dict[str, int]  # limit -> workers
    on_demand_denied: BoolArray  # [J] the budget forbids on-demand
    money_short: BoolArray  # [J] the job's own budget held back workers
    waiting: dict[str, BoolArray]  # limit -> [J] jobs it held back


def enforce(fleet: Fleet, accepted: Accepted, money: Money, mix: Mix, wanted: Slots) -> Enforced:
    """Cut the wanted slots down to what all limits allow."""
    denied = ~may_use_on_demand(money.state, mix.critical, money.price_per_hour)
    wanted = _without_denied(fleet, wanted, denied)
    wanted = _within_width(fleet, wanted)
    wanted = _onto_on_demand_pools(fleet, wanted)
    cutter = _Cutter(fleet, wanted, _rank(fleet, accepted, mix, wanted))
    cutter.cut_pools()
    cutter.cut_jobs(spending_rate_limit(money.state, mix.critical, _ENFORCED_AFTER_TICKS * fleet.tick))
    cutter.cut_policy(_reserved_money(accepted, money), accepted.guaranteed)
    kept = cutter.kept()
    return Enforced(kept, cutter.held_back, denied, cutter.money_short, cutter.waiting)


def _without_denied(fleet: Fleet, slots: Slots, denied: BoolArray) -> Slots:
    if not denied.any():
        return slots
    return selected(slots, fleet.pools.is_spot[slots.pool] | ~denied[slots.job])


def _within_width(fleet: Fleet, slots: Slots) -> Slots:
    """Later slots are of less use; those beyond a job's width fall away."""
    inside = nth_of_job(slots.job) < fleet.jobs.width[slots.job]
    return slots if inside.all() else selected(slots, inside)


def _onto_on_demand_pools(fleet: Fleet, slots: Slots) -> Slots:
    """Spread new on-demand workers over the on-demand pools with room that the job may use, best pool first."""
    pools, allowed = fleet.pools, fleet.jobs.allowed
    pending = np.flatnonzero((slots.worker < 0) & ~pools.is_spot[slots.pool])
    if len(pending) == 0 or (len(pools.on_demand) == 1 and allowed is None):
        return slots
    pool = slots.pool.copy()
    pool[pending] = -1
    staying = np.bincount(pool[pool >= 0], minlength=len(pools.names))
    room = np.minimum(pools.room, np.maximum(pools.max_workers - staying, 0))
    for column in pools.on_demand.tolist():
        open_ = pending[pool[pending] < 0]
        if allowed is not None:
            open_ = open_[allowed[slots.job[open_], column]]
        pool[open_[: int(room[column])]] = column
    return selected(replace(slots, pool=np.maximum(pool, 0)), pool >= 0)


def _rank(fleet: Fleet, accepted: Accepted, mix: Mix, slots: Slots) -> IntArray:
    """Most important first, tier by tier.

    0. what a promise depends on now, earliest deadline first;
    1. late jobs that were promised: they finish soon rather than wait behind everybody who is in time;
    2. on-demand of promised jobs without slack;
    3. on-demand up to the share that a promise needs: left to the last moment, all promises that share a quota would
       need it at once; 4. other promised, 5. the rest. Running workers first in 2 to 5.
    """
    standing = accepted.standing[slots.job]
    on_demand = ~fleet.pools.is_spot[slots.pool]
    promised = standing == Standing.GUARANTEED
    late = (standing == Standing.BEST_EFFORT) & ~fleet.jobs.best_effort[slots.job] & fleet.jobs.was_admitted[slots.job]
    share = promised & _within_share(mix.needed, slots, on_demand)
    tiers = [slots.must, late, promised & on_demand & mix.critical[slots.job], share, promised]
    tier = np.select(tiers, [0, 1, 2, 3, 4], 5)
    nth = nth_of_job(slots.job)
    left = fleet.jobs.left[slots.job]
    # Without a deadline: every job's first worker before any job's second.
    urgency = np.where(np.isfinite(left), left, 1e12 + nth)
    starting = (slots.worker < 0) & (tier > 1)
    keys = (slots.job, -fleet.jobs.priority[slots.job], urgency, starting, standing, tier)
    return np.lexsort(keys)


def _within_share(needed: IntArray, slots: Slots, on_demand: BoolArray) -> BoolArray:
    """On-demand slots that are among the first `needed` of their job, running ones counted first."""
    result = np.zeros(len(slots.job), dtype=np.bool_)
    if needed.any():
        rows = np.flatnonzero(on_demand)
        rows = rows[np.argsort(slots.worker[rows] < 0, kind="stable")]
        result[rows] = nth_of_job(slots.job[rows]) < needed[slots.job[rows]]
    return result


def _reserved_money(accepted: Accepted, money: Money) -> float:
    """Money that promised jobs may still need on demand: not for others to spend."""
    return float(on_demand_to_finish(money.state, money.price_per_hour)[accepted.guaranteed].sum())


def _prices(fleet: Fleet, slots: Slots) -> FloatArray:
    """What each slot costs an hour: a worker keeps the price it was started at, a new one has its pool's."""
    prices: FloatArray = fleet.pools.price[slots.pool]
    there = np.flatnonzero(slots.worker >= 0)
    paid = fleet.workers.price[slots.worker[there]]
    prices[there] = np.where(np.isnan(paid), prices[there], paid)
    return prices


class _Cutter:
    """Removes slots, constraint by constraint, in rank order; lives inside one decision."""

    def __init__(self, fleet: Fleet, slots: Slots, order: IntArray) -> None:
        self._fleet = fleet
        self._slots = selected(slots, order)
        self._alive = np.ones(len(order), dtype=np.bool_)
        self._price = _prices(fleet, self._slots)
        self._new = self._slots.worker < 0
        self.held_back: dict[str, int] = {}
        self.waiting: dict[str, BoolArray] = {}
        self.money_short = np.zeros(len(fleet.jobs.work), dtype=np.bool_)

    def kept(self) -> Slots:
        """The slots that survived."""
        return selected(self._slots, self._alive)

    def cut_pools(self) -> None:
        """Pool sizes, room for new workers, on-demand quota."""
        pools = self._fleet.pools
        for column in range(len(pools.names)):
            on_pool = self._slots.pool == column
            self._cut("pool", on_pool, np.ones(len(on_pool)), float(pools.max_workers[column]))
            self._cut("pool", on_pool & self._new, np.ones(len(on_pool)), float(pools.room[column]))
        quota = self._fleet.snapshot.limits.on_demand_quota_workers
        if quota is not None:
            on_demand = ~pools.is_spot[self._slots.pool]
            self._cut("onDemandQuota", on_demand, np.ones(len(on_demand)), float(quota))

    def cut_jobs(self, rate_limit: FloatArray) -> None:
        """Money per hour that each job's own budget allows until the next decision."""
        job = self._slots.job
        bounded = np.flatnonzero(np.isfinite(rate_limit[job]) & self._alive)
        if len(bounded) == 0:
            return
        bounded = bounded[np.argsort(job[bounded], kind="stable")]
        mine, cost = job[bounded], self._price[bounded].cumsum()
        first = np.searchsorted(mine, mine, side="left")
        flowing = cost - (cost - self._price[bounded])[first]
        over = bounded[flowing > rate_limit[mine] + _EPSILON]
        self._alive[over] = False
        self.money_short[job[over]] = True

    def cut_policy(self, reserved: float, guaranteed: BoolArray) -> None:
        """Workers and money of the policy, then the rate of launches."""
        limits = self._fleet.snapshot.limits
        everywhere = np.ones(len(self._alive), dtype=np.bool_)
        others = ~guaranteed[self._slots.job]
        one = np.ones(len(self._alive))
        if limits.max_workers is not None:
            self._cut("maxWorkers", everywhere, one, float(limits.max_workers))
        if limits.max_cost_per_hour is not None:
            self._cut("maxCostPerHour", everywhere, self._price, float(limits.max_cost_per_hour))
        horizon = _ENFORCED_AFTER_TICKS * self._fleet.tick
        for name, most, spent in (
            ("maxCostPerHour", limits.max_cost_per_hour, limits.spent_this_hour),
            ("maxCostPerDay", limits.max_cost_per_day, limits.spent_this_day),
            ("maxCostPerMonth", limits.max_cost_per_month, limits.spent_this_month),
        ):
            if most is not None:
                left = max(float(most) - float(spent), 0.0)
                self._cut(name, everywhere, self._price, left * 3600 / horizon)
                if name != "maxCostPerHour":
                    self._cut(name, others, self._price, max(left - reserved, 0.0) * 3600 / horizon)
        self._cut("scaleUp", self._new, one, _starts_allowed(self._fleet))

    def _cut(self, limit: str, where: BoolArray, weight: FloatArray, most: float) -> None:
        if most == inf:
            return
        counted = self._alive & where
        over = counted & (np.cumsum(np.where(counted, weight, 0.0)) > most + _EPSILON)
        count = int(over.sum())
        if count:
            self._alive &= ~over
            self.held_back[limit] = self.held_back.get(limit, 0) + count
            jobs = self.waiting.setdefault(limit, np.zeros(len(self._fleet.jobs.work), dtype=np.bool_))
            jobs[self._slots.job[over]] = True


def _starts_allowed(fleet: Fleet) -> float:
    per_minute = fleet.snapshot.limits.scale_up_workers_per_minute
    if per_minute is None:
        return inf
    return float(max(per_minute - int((fleet.workers.age < 60.0).sum()), 0))
