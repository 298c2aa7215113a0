"""Budgets: on-demand only while it is paid for, money never flows faster than it can be stopped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalfleet_scaling.budget import BudgetState, is_covered, may_use_on_demand, spending_rate_limit


def state(max_cost: float, spent: float, hours: float = 1.0, *, budget_wins: bool = True) -> BudgetState:
    return BudgetState(
        np.array([max_cost]), np.array([spent]), np.array([hours * 3600]), np.array([0.0]), np.array([budget_wins])
    )


@pytest.mark.parametrize(
    ("max_cost", "spent", "covered"),
    [(10.0, 7.0, True), (10.0, 7.01, False), (np.inf, 1e9, True), (0.0, 0.0, False)],
)
def test_a_budget_covers_a_job_when_finishing_on_demand_fits(max_cost: float, spent: float, covered: bool) -> None:
    assert is_covered(state(max_cost, spent), 3.0)[0] == covered


def test_starts_still_to_pay_count() -> None:
    tight = BudgetState(np.array([3.0]), np.zeros(1), np.array([3600.0]), np.array([1.0]), np.array([True]))
    assert not is_covered(tight, 3.0)[0]


@pytest.mark.parametrize(
    ("critical", "budget_wins", "allowed"),
    [(False, False, False), (False, True, False), (True, False, True), (True, True, False)],
)
def test_beyond_the_budget_only_a_deadline_in_danger_that_wins_gets_on_demand(
    critical: bool, budget_wins: bool, allowed: bool
) -> None:
    broken = state(10.0, 9.0, budget_wins=budget_wins)
    assert may_use_on_demand(broken, np.array([critical]), 3.0)[0] == allowed


def test_running_on_demand_keeps_a_covered_budget_covered() -> None:
    spent, hours = 5.0, 1.0
    while hours > 0:
        assert is_covered(state(8.0, spent, hours), 3.0)[0]
        spent, hours = spent + 0.1 * 3.0, hours - 0.1


@given(st.floats(0, 100), st.floats(0, 100), st.floats(1, 600))
def test_money_flows_no_faster_than_a_later_decision_can_stop_it(max_cost: float, spent: float, horizon: float) -> None:
    rate = spending_rate_limit(state(max_cost, spent), np.array([True]), horizon)[0]
    assert spent + rate * horizon / 3600 <= max(max_cost, spent) * (1 + 1e-9) + 1e-9


def test_a_deadline_that_wins_is_not_slowed_down() -> None:
    assert spending_rate_limit(state(1.0, 1.0, budget_wins=False), np.array([True]), 60.0)[0] == np.inf
