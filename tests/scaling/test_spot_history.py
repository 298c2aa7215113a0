"""What is learned about spot pools."""

from decimal import Decimal

import numpy as np
import pytest

from evalfleet_scaling.errors import ClockWentBackwardsError, InvalidObservationError
from evalfleet_scaling.model import CapacityType, Pool
from evalfleet_scaling.spot.history import Life, PoolHistory, became_ready, ended, launch_failed, launched
from evalfleet_scaling.spot.lifetime import cumulative_hazard, expected_lifetime_seconds
from evalfleet_scaling.spot.statistics import Offer, observe_pool, startup_quantile


def pool(name, price="1.00", **more):
    return Pool(name, CapacityType.SPOT, Decimal(price), 16, **more)


def test_the_hazard_is_the_textbook_one():
    lives = [Life(1.0, True), Life(2.0, False), Life(3.0, True), Life(3.0, True), Life(5.0, False)]
    times, hazard = cumulative_hazard(lives)
    assert times.tolist() == [1.0, 3.0]
    assert hazard.tolist() == pytest.approx([1 / 5, 1 / 5 + 2 / 3])


def test_the_predicted_life_of_exponential_lives_is_their_mean_at_any_age():
    rng = np.random.default_rng(3)
    lives = [Life(float(x), True) for x in rng.exponential(1000.0, 200)]
    assert expected_lifetime_seconds(lives) == pytest.approx(1000.0, rel=0.15)
    assert expected_lifetime_seconds(lives, age_seconds=700.0) == pytest.approx(1000.0, rel=0.3)


def test_censored_lives_lengthen_the_prediction():
    short = [Life(100.0, True)] * 4
    assert expected_lifetime_seconds([*short, *[Life(5000.0, False)] * 4]) > expected_lifetime_seconds(short)


@pytest.mark.parametrize("lives", [[], [Life(10.0, True)] * 2, [Life(1e6, False)] * 9])
def test_little_knowledge_predicts_nothing(lives):
    assert expected_lifetime_seconds(lives) is None


def test_failed_launches_cool_a_pool_down_longer_and_longer_until_one_succeeds():
    history, pauses = PoolHistory("a"), []
    for now in range(7):
        history = launch_failed(history, float(now))
        pauses.append(history.cool_down_until_seconds - now)
    assert pauses == [60, 120, 240, 480, 960, 1800, 1800]
    assert launched(history, 10.0).cool_down_until_seconds is None
    assert launch_failed(launched(history, 10.0), 11.0).cool_down_until_seconds == 71.0


def test_history_refuses_a_clock_that_goes_back_and_durations_that_are_none():
    history = launched(PoolHistory("a"), 100.0)
    with pytest.raises(ClockWentBackwardsError):
        launched(history, 99.0)
    with pytest.raises(InvalidObservationError):
        became_ready(history, 101.0, float("nan"))
    with pytest.raises(InvalidObservationError):
        ended(history, 101.0, -1.0, preempted=True)


def test_history_keeps_the_newest_entries_only():
    history = PoolHistory("a")
    for now in range(500):
        history = became_ready(history, float(now), float(now))
    assert len(history.startups_seconds) == 200
    assert history.startups_seconds[-1] == 499.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], 600.0), ([100.0], 600.0), ([900.0], 900.0), (list(range(1, 19)), 600.0), (list(range(1, 40)), 38)],
)
def test_the_start_up_quantile_is_never_optimistic(values, expected):
    assert startup_quantile(values, 0.95, 600.0) == expected


def test_an_observation_says_what_the_history_holds():
    history = PoolHistory("a")
    for now, life in enumerate((100.0, 200.0, 3300.0)):
        history = ended(became_ready(launched(history, now), now, 60.0), now, life, preempted=True)
    seen = observe_pool(pool("a"), launch_failed(history, 5.0), Offer(3, 1.0, Decimal("0.9")))
    assert (seen.launches, seen.launch_failures, seen.offered_workers) == (4, 1, 3)
    assert seen.interruptions_per_hour == pytest.approx(3.0)
    assert seen.startup_p95_seconds == 600.0  # too few start-ups to undercut the prior
    assert seen.expected_lifetime_seconds is not None
