"""Budgets of the jobs as this decision sees them."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray
from evalfleet_scaling.budget import BudgetState, is_covered
from evalfleet_scaling.fleet.lookahead import Lookahead
from evalfleet_scaling.fleet.tables import Fleet


@dataclass(frozen=True, slots=True)
class Money:
    """State of the budgets at the price of the fallback pool."""

    state: BudgetState
    price_per_hour: float
    covered: BoolArray  # [J] finishing on demand is within the budget

    @property
    def spot_only(self) -> BoolArray:
        """[J] the budget forbids on-demand whatever the deadline needs."""
        result: BoolArray = ~self.covered & self.state.budget_wins
        return result


def read_money(fleet: Fleet, lookahead: Lookahead) -> Money:
    """Starts still to pay: what is left of those under way, and 2d for each further worker the deadline needs."""
    jobs, workers, pools = fleet.jobs, fleet.workers, fleet.pools
    startup, price = float(pools.startup[pools.fallback]), float(pools.price[pools.fallback])
    on_demand = ~pools.is_spot[workers.pool]
    count = len(jobs.work)
    running = np.bincount(workers.job[on_demand], minlength=count)
    delay = np.bincount(workers.job[on_demand], weights=workers.startup_left[on_demand], minlength=count)
    needed = np.ceil(np.nan_to_num(lookahead.shares, nan=1.0))
    starts = delay + np.maximum(needed - running, 0) * 2 * startup
    state = BudgetState(jobs.max_cost, jobs.spent, jobs.work, starts, jobs.budget_wins)
    return Money(state, price, is_covered(state, price))
