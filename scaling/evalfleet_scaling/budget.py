"""Budgets of jobs: may on-demand still be used, and how fast may money flow.

The invariant behind "deadline and budget both guaranteed", with everything finished on demand at its price c_od:

    spent + c_od * (W + starts) <= B,      starts = sum of start-up left of running workers + 2d per worker not running

While it holds a job may use any capacity. When it breaks and the job is not critical, only spot may be used; when it is
critical, `onConflict` decides. Money is float here, for speed: the ledger of record (`spend`) is exact.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray


@dataclass(frozen=True, slots=True)
class BudgetState:
    """J jobs. Money in the policy's currency, work in seconds of an on-demand worker."""

    max_cost: FloatArray  # inf without a budget
    spent: FloatArray
    work: FloatArray
    starts: FloatArray  # seconds of start-up that finishing on demand would still pay
    budget_wins: BoolArray  # onConflict: Budget


def on_demand_to_finish(state: BudgetState, price_per_hour: float) -> FloatArray:
    """[J] money that finishing everything on demand costs."""
    return price_per_hour * (state.work + state.starts) / 3600


def is_covered(state: BudgetState, price_per_hour: float) -> BoolArray:
    """[J] whether the invariant holds."""
    result: BoolArray = state.spent + on_demand_to_finish(state, price_per_hour) <= state.max_cost * (1 + 1e-9)
    return result


def may_use_on_demand(state: BudgetState, critical: BoolArray, price_per_hour: float) -> BoolArray:
    """[J] on-demand is allowed: the budget covers it, or the deadline is in danger and wins over the budget."""
    result: BoolArray = is_covered(state, price_per_hour) | (critical & ~state.budget_wins)
    return result


def spending_rate_limit(state: BudgetState, critical: BoolArray, horizon_seconds: float) -> FloatArray:
    """[J] money per hour that may flow until the next decision is surely enforced; inf where the deadline wins.

    `horizon_seconds` is how long workers may run on before a later decision has stopped them.
    """
    remaining = np.maximum(state.max_cost - state.spent, 0.0)
    rate = remaining * 3600 / horizon_seconds
    exempt = critical & ~state.budget_wins
    return np.where(exempt, np.inf, rate)
