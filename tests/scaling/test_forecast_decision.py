"""The rules from a demand quantile to a number of workers, and the policies made of them."""

import numpy as np
import pytest
from demand_series import noisy, perfect
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.forecast.decision import (
    InvalidDecisionError,
    Situation,
    level_of_target,
    newsvendor_level,
    proactive_workers,
    reaction_floor,
    reactive_workers,
    veto_removal,
    warm_capacity,
    worth_starting,
)
from evalfleet_scaling.forecast.grid import replay_grid
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import Candidate, InvalidPolicyError, Observation, Setting, scenarios_of
from evalfleet_scaling.forecast.workers import (
    REACTIVE,
    DemandForecast,
    InvalidForecastError,
    proactive,
    recent_rate,
    vetoing,
)


def at(value: float) -> FloatArray:
    return np.array([value])


def situation(**changes: float) -> Situation:
    facts = {"backlog": 0.0, "arriving": 0.0, "running": 0.0, "starting": 0.0, "pending_credit": 0.0, "lead": 15.0}
    facts |= changes
    lead = at(facts.pop("lead"))
    return Situation(*(at(number) for number in facts.values()), lead, 10.0)


def test_the_newsvendor_level_is_the_critical_ratio_within_its_limits() -> None:
    assert newsvendor_level(3.0, 1.0) == 0.75
    assert newsvendor_level(0.0, 0.0) == 0.5
    assert newsvendor_level(1.0, 9.0) == 0.5
    assert newsvendor_level(1e9, 1.0) == 0.99
    assert level_of_target(5.0) == pytest.approx(0.95)
    assert level_of_target(0.0) == 0.99
    assert level_of_target(80.0) == 0.5


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf")])
def test_a_cost_that_is_none_is_refused(cost: float) -> None:
    with pytest.raises(InvalidDecisionError):
        newsvendor_level(cost, 1.0)
    with pytest.raises(InvalidDecisionError):
        level_of_target(cost)


def test_reaction_drains_the_backlog_and_keeps_up() -> None:
    assert reactive_workers(at(1_200.0), at(180.0), at(10.0))[0] == 2.0 + 3.0


def test_prediction_keeps_up_with_the_median_and_covers_what_would_wait_beyond_the_tolerance() -> None:
    # Median 9,000 in 15 min = 10 workers, which clear 6,000 within the tolerance of 10 min.
    median, quantile = at(9_000.0), at(15_000.0)
    enough = situation(running=10)
    assert proactive_workers(enough, median, quantile, at(10.0))[0] == 10.0
    short = situation(running=10, backlog=9_000.0)
    assert proactive_workers(short, median, quantile, at(20.0))[0] == pytest.approx(10.0 + 9_000 / 1_200)


def test_without_a_forecast_prediction_is_reaction() -> None:
    now = situation(backlog=1_200.0, arriving=180.0, running=2)
    none = at(float("nan"))
    assert proactive_workers(now, none, none, at(5.0))[0] == reactive_workers(at(1_200.0), at(180.0), at(5.0))[0]


def test_no_worker_is_started_that_would_be_busy_for_less_than_its_start_up() -> None:
    # 1,800 GPU-seconds are two start-ups of 15 min of one worker each.
    spike = situation(backlog=1_800.0)
    assert worth_starting(at(9.0), spike, at(0.0))[0] == 2.0
    assert worth_starting(at(9.0), situation(), at(0.0))[0] == 0.0
    running = situation(running=6)
    assert worth_starting(at(4.0), running, at(0.0))[0] == 4.0
    assert worth_starting(at(9.0), running, at(0.0))[0] == 6.0


def test_a_forecast_keeps_only_workers_that_it_keeps_busy_throughout() -> None:
    now = situation(running=5)
    assert veto_removal(at(0.0), now, at(2.9 * 900))[0] == 2
    assert veto_removal(at(0.0), now, at(10.0))[0] == 0
    assert veto_removal(at(0.0), now, at(float("nan")))[0] == 0


NUMBERS = st.floats(0, 1e6)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS, st.integers(0, 500), st.integers(0, 500), NUMBERS, NUMBERS, st.integers(1, 60))
def test_a_forecast_alone_never_removes_what_reaction_needs_nor_vetoes_a_start(
    backlog: float, arriving: float, running: int, starting: int, median: float, more: float, lead: int
) -> None:
    now = situation(backlog=backlog, arriving=arriving, running=running, starting=starting, lead=lead)
    wanted = proactive_workers(now, at(median), at(median + more), at(10.0))
    assert wanted[0] >= reaction_floor(now)[0] - 1e-9
    reaction = np.ceil(reactive_workers(at(backlog), at(arriving), at(10.0)))
    kept = veto_removal(reaction, now, at(median))
    assert reaction[0] <= kept[0] <= max(reaction[0], running + starting)


@settings(max_examples=200, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, st.integers(0, 500))
def test_more_safety_never_asks_for_fewer_workers(median: float, low: float, more: float, running: int) -> None:
    now = situation(running=running, backlog=1_000.0)
    less = proactive_workers(now, at(median), at(median + low), at(10.0))
    assert proactive_workers(now, at(median), at(median + low + more), at(10.0))[0] >= less[0] - 1e-9
    assert proactive_workers(now, at(median), at(median + low), at(5.0))[0] >= less[0] - 1e-9


def test_warm_capacity_is_what_clears_the_unexpected_within_the_tolerance() -> None:
    now = situation(running=10)
    assert warm_capacity(now, at(9_000.0))[0] == 0
    assert warm_capacity(now, at(9_001.0))[0] == 1
    assert warm_capacity(now, at(21_000.0))[0] == 20
    assert warm_capacity(now, at(21_000.0), most=7)[0] == 7
    assert warm_capacity(now, at(float("nan")))[0] == 0


def test_the_rate_of_late_holds_over_gaps() -> None:
    values = np.array([np.nan, 60.0, 0.0, np.nan, np.nan, np.nan, 30.0])
    assert recent_rate((Series(values),), 2)[:, 0].tolist() == [0.0, 60.0, 30.0, 0.0, 0.0, 0.0, 30.0]


def test_knowing_what_comes_is_cheaper_than_reacting_when_workers_start_slowly() -> None:
    series = noisy(24, 1)
    costs = [
        replay_grid(candidate, [series], [15], 10, 60).best(15, 1.0, slice(1, None))
        for candidate in (REACTIVE, proactive(perfect(series, 15)))
    ]
    assert all(outcome.met for outcome in costs)
    assert costs[1].cost < 0.9 * costs[0].cost


def test_a_policy_with_a_smaller_grid_is_refused() -> None:
    with pytest.raises(InvalidPolicyError, match="every policy is tuned over"):
        Candidate("lazy", REACTIVE.factory, (1.0,))


def test_forecasts_that_do_not_fit_are_refused() -> None:
    scenarios = scenarios_of([noisy(2, 0)], [15], 10, [Setting(0.9, 10.0, 0.0)])
    with pytest.raises(InvalidForecastError, match="missing"):
        vetoing(DemandForecast((5,), (0.5,), np.zeros((120, 1, 1, 1)))).factory(scenarios)
    with pytest.raises(InvalidForecastError, match="last axes"):
        DemandForecast((5,), (0.5, 0.9), np.zeros((120, 1, 1, 1)))
    with pytest.raises(InvalidForecastError, match="ascend"):
        DemandForecast((5,), (0.9, 0.5), np.zeros((120, 1, 1, 2)))


def test_the_level_between_two_quantiles_is_interpolated() -> None:
    series = Series(np.zeros(3))
    table = np.broadcast_to(np.array([0.0, 9_000.0]), (3, 1, 1, 2))
    scenarios = scenarios_of([series], [15], 0, [Setting(level, 15.0, 0.0) for level in (0.5, 0.7, 0.9, 0.99)])
    policy = proactive(DemandForecast((15,), (0.5, 0.9), table)).factory(scenarios)
    nothing = np.zeros(4)
    backlog = np.full(4, 1e6)
    seen = Observation(0, nothing, backlog, nothing + 1e4, nothing, nothing)
    assert policy.wanted(seen) == pytest.approx(np.full(4, 1e6 / 60))
    quiet = Observation(0, nothing, nothing, nothing, nothing, nothing)
    # The median is 0: nothing is worth its start-up.
    assert policy.wanted(quiet).tolist() == [0.0] * 4


def test_a_safety_above_one_goes_beyond_the_highest_level_in_steps_of_its_distance_from_the_median() -> None:
    series = Series(np.zeros(3))
    table = np.broadcast_to(np.array([9_000.0, 9_900.0, 10_800.0]), (3, 1, 1, 3))
    scenarios = scenarios_of([series], [15], 10, [Setting(safety, 15.0, 0.0) for safety in (0.5, 0.9, 0.99, 1.3, 2.0)])
    policy = proactive(DemandForecast((15,), (0.5, 0.9, 0.99), table)).factory(scenarios)
    nothing = np.zeros(5)
    # Ten workers serve the median and clear 6,000 within the tolerance; the rest of the quantile is cleared in 15 min.
    quantile = 9_000.0 + np.array([0.0, 900.0, 1_800.0, 1.3 * 1_800.0, 2.0 * 1_800.0])
    seen = Observation(0, nothing, nothing, nothing, nothing, nothing)
    assert policy.wanted(seen) == pytest.approx(10.0 + (quantile - 6_000.0) / 900.0)
