"""Clocks that jump and inputs that stop: said, handled, and never a zero where nobody looked."""

import numpy as np
import pytest

from evalfleet_lab.synthetic.demand import diurnal
from evalfleet_scaling.forecast.boosting import TrainingSet, train
from evalfleet_scaling.forecast.features import UNKNOWN, features
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.ingest import Arrivals, ingest
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.window import Window

HOUR = 3_600.0
SETUP = Setup((5, 15), (0.5, 0.9, 0.99))


def steady(first: float, last: float) -> np.ndarray:
    return np.arange(first, last, 60.0)


def test_a_clock_stepped_back_by_an_hour_counts_everything_and_says_so() -> None:
    seconds = np.concatenate([steady(0, 3 * HOUR), steady(2 * HOUR, 4 * HOUR)])
    out = ingest(Arrivals(seconds, np.ones(len(seconds))))
    assert [finding.reason for finding in out.warnings] == ["OutOfOrder"]
    assert out.series.values.sum() == len(seconds)
    assert out.series.values[150] == 2.0


def test_a_clock_stepped_forward_leaves_a_gap_and_no_zeros() -> None:
    seconds = np.concatenate([steady(0, 2 * HOUR), steady(3 * HOUR, 4 * HOUR)])
    watched = [(0.0, 2 * HOUR), (3 * HOUR, 4 * HOUR)]
    out = ingest(Arrivals(seconds, np.ones(len(seconds)), watched=watched))
    assert out.warnings == ()
    assert np.isnan(out.series.values[120:180]).all()
    assert not (out.series.values == 0).any()


def test_events_delivered_twice_and_shuffled_give_the_series_of_those_delivered_once() -> None:
    rng = np.random.default_rng(0)
    seconds, demand = rng.uniform(0, 6 * HOUR, 500), rng.gamma(1.0, 600.0, 500)
    ids = [f"job-{index}" for index in range(500)]
    order = rng.permutation(1_000) % 500
    twice = ingest(
        Arrivals(seconds[order], demand[order], ids=[ids[index] for index in order], watched=[(0, 6 * HOUR)])
    )
    once = ingest(Arrivals(seconds, demand, ids=ids, watched=[(0, 6 * HOUR)]))
    np.testing.assert_allclose(twice.series.values, once.series.values)
    assert {finding.reason: finding.count for finding in twice.warnings}["Duplicate"] == 500


def test_forecasts_after_an_hour_nobody_watched_are_not_those_after_an_hour_of_silence() -> None:
    values = diurnal(1.2, 3).values
    unseen, silent = values.copy(), values.copy()
    unseen[-60:], silent[-60:] = np.nan, 0.0
    after = {}
    for name, series in (("unseen", unseen), ("silent", silent)):
        forecaster = Forecaster(SETUP, 0, None)
        forecaster.advance(series)
        after[name] = forecaster.forecast(15, (0.5,))[0]
    assert after["unseen"] > 1.5 * after["silent"]


def test_a_feature_that_was_never_known_is_a_number_and_trees_are_trained() -> None:
    # Two days of data: the lag of a week is unknown in every row, a column of all-NaN.
    window = Window(diurnal(2, 4).values, MINUTES_PER_DAY // 2, 0)
    rows, _ = features(window)
    never = (rows == UNKNOWN).all(axis=0)
    assert never.any()
    assert np.isfinite(rows).all()
    assert train(TrainingSet(Setup((5,), (0.9,)), window, 600.0)) is not None


@pytest.mark.parametrize("bad", [-5.0, float("nan"), float("-inf"), 1e300])
def test_a_day_with_bad_minutes_is_forecast_as_if_nobody_had_watched_them(bad: float) -> None:
    values = diurnal(0.5, 5).values
    spoiled, gaps = values.copy(), values.copy()
    spoiled[200::7], gaps[200::7] = bad, np.nan
    answers = []
    for series in (spoiled, gaps):
        forecaster = Forecaster(SETUP, 0, None)
        for value in series.tolist():
            forecaster.learn_one(value)
        answers.append(forecaster.forecast(15, SETUP.quantiles))
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.isfinite(answers[0]).all()
