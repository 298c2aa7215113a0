"""The forecaster: one minute at a time or all at once, through gaps, restarts and shifts."""

from functools import cache

import numpy as np
import pytest

from evalfleet_lab.synthetic.demand import diurnal, level_shift, stationary, sweeps
from evalfleet_scaling.forecast.boosting import Boosted, TrainingSet, train
from evalfleet_scaling.forecast.forecaster import (
    MEMBERS,
    Advance,
    Forecaster,
    UnknownHorizonError,
    UnknownMemberError,
)
from evalfleet_scaling.forecast.interface import (
    MINUTES_PER_DAY,
    BatchMember,
    Member,
    Series,
    lead_time_demand,
    replay,
    trailing_sum,
)
from evalfleet_scaling.forecast.models import Setup

SETUP = Setup((5, 15), (0.5, 0.9, 0.99))


@cache
def stationary_run() -> tuple[Series, list[Advance]]:
    series = stationary(14, 1)
    return series, Forecaster(SETUP, series.start_minute, None).advance(series.values)


def mixed(parts: list[Advance]) -> np.ndarray:
    return np.concatenate([part.mixed for part in parts])


def stream(forecaster: Forecaster, values: np.ndarray) -> np.ndarray:
    out = []
    for value in values.tolist():
        forecaster.learn_one(value)
        out.append([forecaster.forecast(horizon, SETUP.quantiles) for horizon in SETUP.horizons])
    return np.array(out)


def with_gaps(series: Series) -> np.ndarray:
    values = series.values.copy()
    values[700:760] = np.nan
    values[1_500] = np.nan
    return values


def test_minute_by_minute_gives_the_numbers_of_the_replay_through_gaps_and_training() -> None:
    values = with_gaps(diurnal(2.2, 3))
    trained: list[TrainingSet] = []

    def trainer(training: TrainingSet) -> Boosted | None:
        trained.append(training)
        return train(training)

    batch = mixed(Forecaster(SETUP, 5_760, trainer).advance(values))
    warm = Forecaster(SETUP, 5_760, trainer)
    warm.advance(values[:2_600])
    streamed = stream(warm, values[2_600:2_960])
    np.testing.assert_allclose(streamed, batch[2_600:2_960], rtol=1e-6, atol=1e-6)
    assert len(trained) == 4
    cold = stream(Forecaster(SETUP, 5_760, None), values[:400])
    np.testing.assert_allclose(cold, batch[:400], rtol=1e-6, atol=1e-6)


def test_every_member_alone_is_a_member_and_replays_itself() -> None:
    series = diurnal(1.2, 5)
    for name in MEMBERS:
        member = Forecaster(SETUP, series.start_minute, None, (name,))
        assert isinstance(member, Member)
        assert isinstance(member, BatchMember)
        assert member.name == name
        out = replay(lambda of, name=name: Forecaster(SETUP, of.start_minute, None, (name,)), series, (15, 5), (0.9,))
        assert out.shape == (len(series), 2, 1)
        assert np.isfinite(out).all(), name


def test_forecasts_never_look_ahead() -> None:
    values = diurnal(1.5, 7).values
    other = values.copy()
    other[1_800:] = 50_000.0
    before = mixed(Forecaster(SETUP, 0, None).advance(values))
    after = mixed(Forecaster(SETUP, 0, None).advance(other))
    np.testing.assert_array_equal(before[:1_800], after[:1_800])


def test_coverage_on_stationary_demand_is_the_level_asked_for() -> None:
    series, parts = stationary_run()
    forecasts = mixed(parts)
    for column, horizon in enumerate(SETUP.horizons):
        demand = lead_time_demand(series.values, horizon)[7 * MINUTES_PER_DAY :]
        known = ~np.isnan(demand)
        for row, (level, margin) in enumerate(zip(SETUP.quantiles, (0.05, 0.02, 0.005), strict=True)):
            covered = (demand <= forecasts[7 * MINUTES_PER_DAY :, column, row])[known].mean()
            assert covered == pytest.approx(level, abs=margin)


def test_quantiles_are_ordered_finite_and_never_negative() -> None:
    forecasts = mixed(stationary_run()[1])
    assert np.isfinite(forecasts).all()
    assert (forecasts >= 0).all()
    assert (np.diff(forecasts, axis=2) >= 0).all()


@pytest.mark.parametrize("family", [diurnal, sweeps])
def test_from_hour_six_on_nothing_exceeds_the_largest_window_by_more_than_a_quarter(family) -> None:
    series = family(1.0, 11)
    forecasts = mixed(Forecaster(SETUP, series.start_minute, None).advance(series.values))
    for column, horizon in enumerate(SETUP.horizons):
        seen = np.maximum.accumulate(np.nan_to_num(trailing_sum(series.values, horizon)))
        hours = slice(360, MINUTES_PER_DAY)
        assert (forecasts[hours, column] <= 1.25 * seen[hours, None] * (1 + 1e-6)).all()


def test_before_anything_was_seen_the_prior_is_one_typical_job_an_hour_or_what_was_declared() -> None:
    fresh = Forecaster(Setup((60,), (0.5, 0.99), typical_job=600.0), 0, None)
    fresh.learn_one(0.0)
    low, high = fresh.forecast(60, (0.5, 0.99))
    assert 0 < low < 600 < high < 6_000
    promised = Forecaster(Setup((60,), (0.5, 0.99), declared=1_000.0), 0, None)
    promised.learn_one(0.0)
    assert 50_000 < promised.forecast(60, (0.5,))[0] < 61_000


def test_a_gap_is_never_a_zero() -> None:
    values = stationary(1.0, 2).values
    quiet, gap = values.copy(), values.copy()
    quiet[-60:], gap[-60:] = 0.0, np.nan
    after_quiet = mixed(Forecaster(SETUP, 0, None).advance(quiet))[-1]
    after_gap = mixed(Forecaster(SETUP, 0, None).advance(gap))[-1]
    before = mixed(Forecaster(SETUP, 0, None).advance(values[:-60]))[-1]
    assert (after_quiet[:, 0] < 0.5 * before[:, 0]).all()
    assert (after_gap[:, 0] > 0.5 * before[:, 0]).all()


def test_a_day_without_any_observation_still_answers() -> None:
    forecasts = mixed(Forecaster(SETUP, 0, None).advance(np.full(1_500, np.nan)))
    assert np.isfinite(forecasts).all()


@pytest.mark.parametrize("bad", [-1.0, float("inf"), 1e300])
def test_an_impossible_minute_is_a_gap(bad: float) -> None:
    values = stationary(0.3, 2).values
    answers = []
    for last in (bad, float("nan")):
        forecaster = Forecaster(SETUP, 0, None)
        forecaster.advance(np.append(values, last))
        answers.append(forecaster.forecast(15, SETUP.quantiles))
    np.testing.assert_array_equal(answers[0], answers[1])


def test_levels_between_those_followed_are_interpolated() -> None:
    forecaster = Forecaster(SETUP, 0, None)
    forecaster.advance(stationary(0.5, 3).values)
    middle = forecaster.forecast(5, (0.5, 0.7, 0.9))
    assert middle[1] == pytest.approx((middle[0] + middle[2]) / 2)


def test_an_unknown_horizon_or_member_is_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownHorizonError, match=r"\[5, 15\]"):
        Forecaster(SETUP).forecast(7, (0.5,))
    with pytest.raises(UnknownMemberError, match="ses"):
        Forecaster(SETUP, members=("prophet",))


def test_a_training_that_fails_keeps_the_old_trees_and_asks_again_tomorrow() -> None:
    forecaster = Forecaster(SETUP, 0, None)
    forecaster.advance(stationary(1.0, 4).values)
    assert forecaster.training_due
    trees = train(forecaster.training_set())
    assert trees is not None
    forecaster.install(trees)
    assert not forecaster.training_due
    forecaster.install(None)
    assert forecaster.trees.boosted is trees


def test_thirty_stationary_days_raise_at_most_one_alarm() -> None:
    for family in (stationary, diurnal):
        series = family(30, 21)
        parts = Forecaster(Setup((5,), (0.9,)), series.start_minute, None, ("ses",)).advance(series.values)
        alarmed = np.concatenate([part.alarmed for part in parts])
        assert (np.diff(alarmed.astype(int)) == 1).sum() <= 1, series.name


def test_a_doubling_in_working_hours_raises_an_alarm_within_two_hours() -> None:
    for seed in range(4):
        series = level_shift(12.6, seed)
        shift = len(series) * 2 // 3
        parts = Forecaster(Setup((5,), (0.9,)), series.start_minute, None, ("ses",)).advance(series.values)
        alarmed = np.concatenate([part.alarmed for part in parts])
        assert not alarmed[shift - 1]
        assert alarmed[shift : shift + 121].any()


def test_one_absurd_minute_is_an_anomaly_and_no_drift() -> None:
    series = stationary(4, 8)
    values = series.values.copy()
    values[3 * MINUTES_PER_DAY] = 1e9
    parts = Forecaster(Setup((5,), (0.9,)), series.start_minute, None, ("ses",)).advance(values)
    assert not np.concatenate([part.alarmed for part in parts]).any()
