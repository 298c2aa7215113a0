"""Worker policies of other systems: their rules, and that none looks ahead."""

import numpy as np
import pytest

from evalfleet_lab.baselines.fixed import Fixed, mean_rate
from evalfleet_lab.baselines.hpa import Hpa
from evalfleet_lab.baselines.knative import STABLE_MINUTES, Knative
from evalfleet_lab.baselines.policies import CANDIDATES
from evalfleet_lab.synthetic.demand import diurnal
from evalfleet_lab.tuning.tune import foresight
from evalfleet_scaling.forecast.grid import replay_grid
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.policy import Candidate, Observation, Scenarios, Setting, scenarios_of

PLAIN = Setting(1.0, 10.0, 0.0)
DAYS = diurnal(1.3, 8)


def scenarios(values: np.ndarray, setting: Setting = PLAIN) -> Scenarios:
    return scenarios_of([Series(values)], [5], 10, [setting])


def seen(minute: int, backlog: float, running: float, arrived: float = 0.0) -> Observation:
    zero = np.zeros(1)
    return Observation(minute, np.array([arrived]), np.array([backlog]), np.array([running]), zero, zero)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda one: str(one.name))
def test_a_policy_does_not_look_ahead(candidate: Candidate) -> None:
    assert not foresight(candidate, DAYS, 5, MINUTES_PER_DAY + 300)


@pytest.mark.parametrize("candidate", CANDIDATES, ids=lambda one: str(one.name))
def test_every_policy_has_a_setting_that_is_in_time_on_daily_demand(candidate: Candidate) -> None:
    grid = replay_grid(candidate, [DAYS], (5,), 10)
    best = grid.best(5, 5.0, slice(1, None))
    assert best.met
    assert 1.0 <= best.cost < 6.0


def test_the_hpa_keeps_what_is_within_its_tolerance() -> None:
    policy = Hpa(scenarios(np.zeros(10)))
    within, beyond = 10.9 * 600.0, 11.1 * 600.0
    assert policy.wanted(seen(0, within, 10.0)).tolist() == [10.0]
    assert policy.wanted(seen(1, beyond, 10.0)).tolist() == [12.0]


def test_the_hpa_goes_down_to_the_highest_recommendation_of_five_minutes() -> None:
    policy = Hpa(scenarios(np.zeros(20)))
    policy.wanted(seen(0, 20 * 600.0, 5.0))
    down = [policy.wanted(seen(minute, 0.0, 20.0))[0] for minute in range(1, 6)]
    assert down == [20.0, 20.0, 20.0, 20.0, 0.0]


def test_the_hpa_grows_by_its_limit_in_a_minute() -> None:
    policy = Hpa(scenarios(np.zeros(5)))
    assert policy.wanted(seen(0, 1e6, 0.0)).tolist() == [16.0]
    assert policy.wanted(seen(1, 1e9, 16.0)).tolist() == [256.0]


def test_the_hpa_takes_the_larger_of_queue_and_arrivals() -> None:
    policy = Hpa(scenarios(np.full(30, 600.0)))
    assert policy.wanted(seen(20, 0.0, 1.0)).tolist() == [10.0]
    assert policy.wanted(seen(21, 12 * 600.0, 1.0)).tolist() == [12.0]


def test_knative_averages_until_the_panic_threshold_and_then_only_grows() -> None:
    policy = Knative(scenarios(np.zeros(60)))
    for minute in range(STABLE_MINUTES):
        calm = policy.wanted(seen(minute, 0.0, 4.0, arrived=240.0))
    assert calm.tolist() == [4.0]
    assert policy.wanted(seen(10, 0.0, 4.0, arrived=420.0)).tolist() == [5.0]
    assert policy.wanted(seen(11, 0.0, 4.0, arrived=480.0)).tolist() == [8.0]
    held = [policy.wanted(seen(minute, 0.0, 8.0))[0] for minute in range(12, 21)]
    assert held == [8.0] * 9
    assert policy.wanted(seen(21, 0.0, 8.0))[0] < 8.0


def test_static_capacity_is_fixed_after_the_first_day() -> None:
    values = np.concatenate([np.full(MINUTES_PER_DAY, 60.0), np.full(MINUTES_PER_DAY, 600.0)])
    np.testing.assert_array_equal(mean_rate(Series(values)), np.full(2 * MINUTES_PER_DAY, 60.0))
    policy = Fixed(scenarios(values, Setting(2.0, 1.5, 0.0)))
    assert policy.wanted(seen(2 * MINUTES_PER_DAY - 1, 1e9, 3.0)).tolist() == [3.0]
