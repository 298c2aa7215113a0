"""Baselines: the arithmetic of the systems they stand for, never a look ahead, gaps as gaps."""

import warnings

import numpy as np
import pytest

from evalfleet_lab.baselines import FACTORIES, RULES, arima, histogram, holt_winters, kalman, linear
from evalfleet_lab.baselines.rule import SAFETY_FACTORS, by_minute, phases, with_safety
from evalfleet_lab.synthetic.demand import diurnal
from evalfleet_scaling.forecast.interface import (
    MINUTES_PER_DAY,
    BatchMember,
    FloatArray,
    Member,
    Series,
    lead_time_demand,
    replay,
    trailing_sum,
)

LEVELS = (0.5, 0.9, 0.99)
DAYS = diurnal(3, 5)


def column(values: FloatArray) -> FloatArray:
    return values[:, None]


@pytest.mark.parametrize("name", FACTORIES)
def test_a_baseline_is_a_member_under_its_own_name(name: str) -> None:
    member = FACTORIES[name](DAYS)
    assert isinstance(member, Member)
    assert isinstance(member, BatchMember)
    assert member.name == name


@pytest.mark.parametrize("name", FACTORIES)
def test_a_baseline_never_looks_ahead(name: str) -> None:
    upto = 2 * MINUTES_PER_DAY + 77
    other = DAYS.values.copy()
    other[upto:] = other[upto:][::-1] * 3 + 1
    before, after = (
        replay(FACTORIES[name], Series(values, DAYS.start_minute), (5, 15), LEVELS)[:upto]
        for values in (DAYS.values, other)
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("name", FACTORIES)
def test_a_baseline_asked_at_its_last_minute_says_what_its_replay_says(name: str) -> None:
    short = Series(DAYS.values[: MINUTES_PER_DAY + 400], DAYS.start_minute)
    member = FACTORIES[name](short)
    for value in short.values.tolist():
        member.learn_one(value)
    np.testing.assert_array_equal(member.forecast(15, LEVELS), replay(FACTORIES[name], short, (15,), LEVELS)[-1, 0])


@pytest.mark.parametrize("name", FACTORIES)
def test_after_a_gap_a_baseline_speaks_on_and_its_levels_are_ordered(name: str) -> None:
    values = DAYS.values.copy()
    values[2_000:2_090] = np.nan
    forecasts = replay(FACTORIES[name], Series(values, DAYS.start_minute), (5, 15), LEVELS)
    late = forecasts[4_000:]
    assert np.isfinite(late).all()
    assert (late >= 0).all()
    assert (np.diff(late, axis=2) >= 0).all()


@pytest.mark.parametrize("name", FACTORIES)
def test_a_baseline_survives_silence_gaps_alone_and_one_minute(name: str) -> None:
    for values in (np.zeros(3_000), np.full(3_000, np.nan), np.ones(1)):
        forecasts = replay(FACTORIES[name], Series(values), (5,), LEVELS)
        assert forecasts.shape == (len(values), 1, 3)
        assert not np.isinf(forecasts).any()


def test_phases_are_windows_of_their_own_and_come_back_in_order() -> None:
    values = np.arange(12.0)
    windows = phases(Series(values), 5)
    assert windows.shape == (2, 5)
    assert windows[1, 0] == values[5:10].sum()
    assert np.isnan(windows[1, 3:]).all()
    np.testing.assert_array_equal(by_minute(windows[:, :, None], 12, 5)[:, 0], trailing_sum(values, 5))


def test_the_kalman_filter_forecasts_what_statsmodels_forecasts() -> None:
    statespace = pytest.importorskip("statsmodels.tsa.statespace.mlemodel", reason="statsmodels is not installed")
    loads = np.random.default_rng(0).gamma(2.0, 50.0, 120)
    loads[40:43] = np.nan
    q_level, q_trend, r = kalman.DEFAULT
    transition, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([q_level, q_trend])
    model = statespace.MLEModel(loads[1:], k_states=2, k_posdef=2)
    model["design"], model["obs_cov"] = np.array([[1.0, 0.0]]), np.array([[r]])
    model["transition"], model["selection"], model["state_cov"] = transition, np.eye(2), noise
    model.ssm.initialize_known(np.array([loads[0], 0.0]), 1000.0 * transition @ transition.T + noise)
    expected = model.ssm.filter().predicted_state[0]
    np.testing.assert_allclose(kalman.one_step(column(loads), kalman.DEFAULT)[:, 0], expected, rtol=1e-9)


def test_the_kalman_filter_starts_at_the_first_load() -> None:
    out = kalman.one_step(column(np.array([0.0, 0.0, 80.0])), kalman.DEFAULT)[:, 0]
    assert out.tolist() == [0.0, 0.0, 80.0]


def test_holt_winters_forecasts_what_statsmodels_forecasts() -> None:
    api = pytest.importorskip("statsmodels.tsa.holtwinters", reason="statsmodels is not installed")
    loads = np.random.default_rng(1).gamma(2.0, 50.0, 60)
    alpha, beta, gamma = 0.3, 0.05, 0.2
    model = api.ExponentialSmoothing(
        loads, trend="add", seasonal="add", seasonal_periods=6, initialization_method="known",
        initial_level=loads[0], initial_trend=0.0, initial_seasonal=np.zeros(6),
    )  # fmt: skip
    fitted = model.fit(smoothing_level=alpha, smoothing_trend=beta, smoothing_seasonal=gamma, optimized=False)
    ours = holt_winters.one_step(column(loads), np.array([[alpha, beta, gamma]]), 6)[:, 0, 0]
    np.testing.assert_allclose(ours[:-1], fitted.fittedvalues[1:], rtol=1e-9)
    assert ours[-1] == pytest.approx(fitted.forecast(1)[0])


def simulated(ar: float, ma: float, count: int = 3_000) -> FloatArray:
    noise = np.random.default_rng(2).normal(size=count)
    out = np.zeros(count)
    for step in range(1, count):
        out[step] = ar * out[step - 1] + noise[step] + ma * noise[step - 1]
    return out + 20.0


@pytest.mark.parametrize("d", [0, 1])
def test_arima_forecasts_what_statsmodels_forecasts_with_the_same_coefficients(d: int) -> None:
    api = pytest.importorskip("statsmodels.tsa.arima.model", reason="statsmodels is not installed")
    loads = simulated(0.7, 0.3)
    model = arima.Arima(d, 0.0 if d else 20.0, np.array([0.6]), np.array([0.2]))
    theirs = api.ARIMA(loads, order=(1, d, 1), trend="n" if d else "c")
    result = theirs.filter([0.6, 0.2, 1.0] if d else [20.0, 0.6, 0.2, 1.0])
    np.testing.assert_allclose(model.next_loads(column(loads))[200:-1, 0], result.fittedvalues[201:], rtol=1e-6)


def test_arima_finds_the_coefficients_that_statsmodels_finds() -> None:
    api = pytest.importorskip("statsmodels.tsa.arima.model", reason="statsmodels is not installed")
    loads = simulated(0.7, 0.3)
    theirs = api.ARIMA(loads, order=(1, 0, 1)).fit()
    start = arima.Arima(0, float(loads.mean()), np.zeros(1), np.zeros(1))
    ours = arima.refine(loads - loads.mean(), start)
    assert [ours.ar[0], ours.ma[0]] == pytest.approx(list(theirs.params[1:3]), abs=2e-3)


def test_the_kpss_statistic_is_that_of_statsmodels() -> None:
    tools = pytest.importorskip("statsmodels.tsa.stattools", reason="statsmodels is not installed")
    walk = np.cumsum(np.random.default_rng(3).normal(size=400))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = tools.kpss(walk, nlags="legacy")[0]
    assert arima.kpss(walk) == pytest.approx(expected)


@pytest.mark.parametrize(("ar", "ma"), [(0.7, 0.0), (0.0, 0.6), (0.7, 0.3)])
def test_a_fitted_arima_leaves_little_more_than_the_noise(ar: float, ma: float) -> None:
    loads = simulated(ar, ma)
    model = arima.fit(loads[:2_000])
    error = loads[2_001:] - model.next_loads(column(loads))[2_000:-1, 0]
    assert error.std() == pytest.approx(1.0, abs=0.06)


def test_a_random_walk_is_differenced_and_noise_is_not() -> None:
    noise = np.random.default_rng(4).normal(size=1_000)
    assert arima.fit(np.cumsum(noise)).d == 1
    assert arima.fit(noise + 5).d == 0


def test_the_line_is_the_least_squares_line() -> None:
    values = np.random.default_rng(5).gamma(1.0, 10.0, 300)
    values[100] = np.nan
    ours = linear.line_ahead(values, 15, 8.0)
    slope, now = np.polyfit(np.arange(-14, 1), values[186:201], 1)
    assert ours[200] == pytest.approx(now + 8.0 * slope)
    assert np.isnan(ours[100:115]).all()


def test_the_histogram_percentile_is_the_end_of_the_bucket_that_holds_it() -> None:
    values = np.random.default_rng(6).gamma(0.5, 300.0, 2_000)
    minute = 1_900
    samples = trailing_sum(values, 5)[: minute + 1]
    age = minute - np.arange(minute + 1)
    weight = np.where(np.isnan(samples), 0.0, 0.5 ** (age / MINUTES_PER_DAY))
    order = np.argsort(np.nan_to_num(samples))
    share = np.cumsum(weight[order]) / weight.sum()
    exact = samples[order][np.searchsorted(share, 0.9)]
    said = histogram.levels(Series(values), 5, (0.9,))[minute, 0]
    assert exact < said <= exact * 1.05 + 1.0


def test_the_safety_factor_brings_a_point_forecast_near_its_level() -> None:
    series = Series(np.random.default_rng(7).exponential(1.0, 8_000))
    forecast = with_safety(np.ones(8_000), series, 1, 0.9)
    demand = lead_time_demand(series.values, 1)
    covered = (demand[4_000:-1] <= forecast[4_000:-1]).mean()
    assert 0.84 <= covered <= 0.96
    assert set(forecast.tolist()) <= set(SAFETY_FACTORS)


def test_every_rule_competes_as_published_and_tuned() -> None:
    assert len(FACTORIES) == 2 * len(RULES) == 16
