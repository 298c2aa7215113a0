"""Limits, budgets and stabilisation in the fleet decision: what holds workers back, and that it is named."""

from dataclasses import replace
from decimal import Decimal

import pytest
from fleet_snapshots import HOUR, ON_DEMAND, SPOT, count, fleet, job, worker

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import Budget, Limits, OnConflict


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(max_workers=3), "maxWorkers"),
        (Limits(max_cost_per_hour=Decimal("3.50")), "maxCostPerHour"),
        (Limits(max_cost_per_day=Decimal(10), spent_this_day=Decimal("9.9")), "maxCostPerDay"),
        (Limits(max_cost_per_month=Decimal(10), spent_this_month=Decimal("9.9")), "maxCostPerMonth"),
        (Limits(scale_up_workers_per_minute=3), "scaleUp"),
    ],
)
def test_a_limit_holds_back_workers_and_is_named(limits: Limits, limit: str) -> None:
    decision = decide_fleet(fleet(job(deadline_seconds=None), limits=limits))
    assert decision.of("a").desired_workers == 3
    assert [hit.limit for hit in decision.limits_hit] == [limit]
    assert decision.reason == "ScalingLimited"


def test_a_worker_counts_at_the_price_it_was_started_at_whatever_its_pool_costs_now() -> None:
    limits = Limits(max_cost_per_hour=Decimal("5.00"))
    for price, left in ((None, 4), (Decimal("1.00"), 4), (Decimal("2.50"), 2)):
        have = tuple(replace(worker("a", slot), price_per_hour=price) for slot in range(4))
        decision = decide_fleet(fleet(job(deadline_seconds=None, max_workers=4), workers=have, limits=limits))
        assert 4 - len(decision.of("a").victims) == left


def test_without_a_limit_none_is_named() -> None:
    assert decide_fleet(fleet(job())).limits_hit == ()


def test_a_budget_that_does_not_cover_on_demand_leaves_spot_and_says_so() -> None:
    tight = Budget(Decimal(6), OnConflict.BUDGET)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR, budget=tight), spot=2))
    assert (count(decision, "a", SPOT), count(decision, "a", ON_DEMAND)) == (2, 0)
    assert decision.of("a").reason == "BudgetLimited"


def test_a_deadline_that_wins_over_the_budget_gets_on_demand() -> None:
    tight = Budget(Decimal(6), OnConflict.DEADLINE)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.02 * HOUR, budget=tight), spot=0))
    assert decision.of("a").critical or decision.of("a").best_effort
    assert count(decision, "a", ON_DEMAND) == 4


def test_an_exhausted_budget_stops_the_job() -> None:
    spent = job(budget=Budget(Decimal(5)), spent=Decimal(5))
    decision = decide_fleet(fleet(spent, workers=(worker("a", 0),)))
    assert decision.of("a").victims == ("a-w0",)
    assert decision.of("a").reason == "BudgetExhausted"


def test_shrinking_waits_for_the_stabilisation_window() -> None:
    surplus = job(hours=0.1, deadline_seconds=100 * HOUR)
    have = tuple(worker("a", slot, ON_DEMAND) for slot in range(4))
    limits = Limits(scale_down_stabilization_seconds=300.0)
    first = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits))
    assert not first.of("a").victims
    later = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits, now_seconds=301.0, memory=first.memory))
    assert later.of("a").victims


def test_growing_waits_for_its_window_unless_a_promise_needs_it() -> None:
    limits = Limits(scale_up_stabilization_seconds=120.0)
    first = decide_fleet(fleet(job(), limits=limits))
    assert first.of("a").desired_workers == 0
    later = decide_fleet(fleet(job(), limits=limits, now_seconds=120.0, memory=first.memory))
    assert later.of("a").desired_workers == 4


def test_removals_per_minute_are_limited() -> None:
    surplus = job(hours=0.1, deadline_seconds=100 * HOUR)
    have = tuple(worker("a", slot, ON_DEMAND) for slot in range(4))
    limits = Limits(scale_down_workers_per_minute=1)
    first = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits))
    assert len(first.of("a").victims) == 1
    again = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits, now_seconds=1.0, memory=first.memory))
    assert not again.of("a").victims
