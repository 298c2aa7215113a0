"""Calibration, mix, trees, saved state and ingest, each on its own."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingRegressor

from evalfleet_lab.synthetic.demand import diurnal, stationary
from evalfleet_scaling.forecast.boosting import HISTORY_MINUTES, TrainingSet, train
from evalfleet_scaling.forecast.calibrate import Calibration, score_unit
from evalfleet_scaling.forecast.features import FEATURES, features
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.gamma import gamma_quantiles
from evalfleet_scaling.forecast.ingest import Arrivals, ingest
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY
from evalfleet_scaling.forecast.mix import Mix, pinball
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.smoothing import GridChoice, _slot_weights
from evalfleet_scaling.forecast.state import InvalidStateError, dump, load
from evalfleet_scaling.forecast.trees import FIRST_LEAF, fit_quantile
from evalfleet_scaling.forecast.window import Window

ONE = Setup((1,), (0.9,))


def test_calibration_moves_a_wrong_quantile_to_its_level_and_waits_for_the_outcome() -> None:
    rng = np.random.default_rng(0)
    demand = rng.exponential(1.0, 6_000)
    calibration = Calibration(ONE, 1)
    raw = np.full((6_000, 1, 1, 1), 1.0)
    out = calibration.advance(raw, np.ones((6_000, 1, 1)), demand[:, None])[:, 0, 0, 0]
    assert np.isnan(out[0])
    covered = demand[2_001:] <= out[2_000:-1]
    assert covered.mean() == pytest.approx(0.9, abs=0.015)


def test_the_upper_tail_is_calibrated_by_three_days_of_scores() -> None:
    demand = np.random.default_rng(10).exponential(1.0, 12_000)
    demand[2_000:2_030] = 50.0
    calibration = Calibration(Setup((1,), (0.9, 0.99)), 1)
    out = calibration.advance(np.ones((12_000, 1, 1, 2)), np.ones((12_000, 1, 1)), demand[:, None])[:, 0, 0]
    ordinary, tail = out[3_900]
    assert ordinary == pytest.approx(-np.log(0.1), abs=0.3)
    forgotten = out[-1, 1]
    assert tail > forgotten + 0.2
    covered = demand[6_401:] <= out[6_400:-1, 1]
    assert covered.mean() == pytest.approx(0.99, abs=0.006)


def test_calibration_in_pieces_equals_calibration_at_once() -> None:
    demand = np.random.default_rng(11).exponential(1.0, (400, 1))
    setup = Setup((1,), (0.9, 0.99))
    raw, unit = np.ones((400, 1, 1, 2)), np.ones((400, 1, 1))
    at_once = Calibration(setup, 1).advance(raw, unit, demand)
    calibration = Calibration(setup, 1)
    parts = [calibration.advance(raw[part], unit[part], demand[part]) for part in np.split(np.arange(400), [1, 2, 77])]
    np.testing.assert_array_equal(np.concatenate(parts), at_once)


def test_the_unit_of_a_silent_hour_is_not_zero() -> None:
    unit = score_unit(np.array([0.0]), np.array([600.0]))
    assert unit[0] == pytest.approx(np.sqrt(0.1) * 600.0)


def test_the_mix_hears_only_the_first_stage_for_a_day_then_those_that_are_good() -> None:
    rng = np.random.default_rng(1)
    rows = 3_200
    demand = rng.exponential(1.0, rows)
    right = -np.log(0.1)
    forecasts = np.tile(np.array([right, right * 1.02, right * 4.0])[None, :, None, None], (rows, 1, 1, 1))
    mix = Mix(ONE, (1, 2, 3), 0)
    mixed, weights = mix.advance(forecasts, demand[:, None], np.zeros(rows, dtype=bool))
    assert weights[1_000, :, 0, 0].tolist() == [1.0, 0.0, 0.0]
    assert weights[-1, 1, 0, 0] > 0
    assert weights[-1, 2, 0, 0] == 0.0
    assert mixed[-1, 0, 0] == pytest.approx(right, rel=0.02)


def test_after_an_alarm_trees_are_silent_and_the_rest_speaks_with_equal_weight() -> None:
    rows = 2_000
    mix = Mix(ONE, (1, 2, 3), 0)
    rng = np.random.default_rng(2)
    early = np.arange(rows) >= 1_900
    forecasts = np.tile(np.array([2.0, 2.3, 2.2])[None, :, None, None], (rows, 1, 1, 1))
    _, weights = mix.advance(forecasts, rng.exponential(1.0, (rows, 1)), early)
    assert weights[1_899, 2, 0, 0] > 0
    assert weights[1_900, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_the_mix_is_zero_only_where_the_percentile_of_past_windows_is_and_others_agree() -> None:
    arrived = np.where(np.arange(3_000) % 20 == 0, 900.0, 0.0)[:, None]

    def mixed(*members: float, empirical: int | None) -> float:
        forecasts = np.tile(np.array(members)[None, :, None, None], (3_000, 1, 1, 1))
        mix = Mix(ONE, (1,) * len(members), 0, empirical)
        return float(mix.advance(forecasts, arrived, np.zeros(3_000, dtype=bool))[0][-1, 0, 0])

    assert mixed(0.0, 0.5, 9.0, empirical=0) == 0.0
    assert mixed(0.0, 0.5, 9.0, empirical=2) > 0.0
    assert mixed(0.0, 0.5, 9.0, empirical=None) > 0.0
    assert mixed(8.0, 9.0, 10.0, 0.0, empirical=3) > 0.0


def test_a_percentile_of_four_days_remembers_what_one_day_forgets() -> None:
    values = np.zeros(5 * MINUTES_PER_DAY)
    values[:MINUTES_PER_DAY:3] = 600.0
    setup = Setup((5,), (0.9,))
    day, week = (Forecaster(setup, members=(name,)) for name in ("day-percentile", "week-percentile"))
    assert day.advance(values)[-1].members[-1, 0, 0, 0] <= 1.0
    assert week.advance(values)[-1].members[-1, 0, 0, 0] >= 600.0


def test_pinball_loss_weighs_shortage_by_the_level() -> None:
    assert pinball(np.array([2.0, 0.0]), np.array([1.0, 1.0]), 0.9).tolist() == pytest.approx([0.9, 0.1])


def test_gamma_quantiles_have_the_mean_and_dispersion_asked_for() -> None:
    quantile = gamma_quantiles(np.array([10.0]), np.array([10.0]), (0.5, 0.9))
    np.testing.assert_allclose(quantile[0], 10.0 * -np.log([0.5, 0.1]), rtol=1e-9)


def test_the_grid_follows_the_constant_with_the_smaller_error() -> None:
    choice = GridChoice((2,), 2)
    forecasts = np.tile(np.array([[[1.0, 5.0]]]), (50, 1, 1))
    chosen = choice.choose(forecasts, np.full((50, 1), 5.0))
    assert chosen[-1, 0] == 5.0


def test_the_season_of_the_next_minutes_covers_exactly_the_horizon() -> None:
    weights = _slot_weights((5, 40))
    np.testing.assert_array_equal(weights.sum(axis=2), np.tile([5.0, 40.0], (15, 1)))
    assert weights[0, 0].tolist()[:2] == [5.0, 0.0]
    assert weights[14, 0].tolist()[:2] == [0.0, 5.0]


def test_exported_trees_predict_what_scikit_learn_predicts() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(1_500, 6)).astype(np.float32).astype(np.float64)
    targets = rows[:, 0] * 2 + np.abs(rows[:, 1]) + rng.normal(size=1_500)
    forest = fit_quantile(rows, targets, 0.9, 30)
    model = HistGradientBoostingRegressor(
        loss="quantile", quantile=0.9, max_iter=48, learning_rate=0.1, max_leaf_nodes=12, min_samples_leaf=30,
        l2_regularization=1.0, max_bins=64, early_stopping=False, random_state=0,
    ).fit(rows, targets)  # fmt: skip
    np.testing.assert_allclose(forest.predict(rows), model.predict(rows), rtol=1e-5, atol=1e-5)


def test_the_first_leaf_table_is_the_lowest_bit() -> None:
    assert [FIRST_LEAF[mask] for mask in (1, 2, 12, 0x8000)] == [0, 1, 2, 15]


def test_features_of_a_series_of_gaps_are_numbers() -> None:
    rows, level = features(Window(np.full(500, np.nan), 400, 0))
    assert rows.shape == (100, FEATURES)
    assert np.isfinite(rows).all()
    assert np.isfinite(level).all()


def test_training_on_too_little_or_only_gaps_gives_nothing() -> None:
    for values in (np.ones(100), np.full(5_000, np.nan)):
        assert train(TrainingSet(ONE, Window(values, 0, 0), 600.0)) is None


def test_training_on_silence_gives_trees_that_forecast_silence() -> None:
    trees = train(TrainingSet(ONE, Window(np.zeros(3_000), 0, 0), 600.0))
    assert trees is not None
    rows = features(Window(np.zeros(500), 499, 0))[0]
    assert [forest.predict(rows)[0] for forest in trees.forests] == pytest.approx([0.0, 0.0], abs=1e-6)


SETUP = Setup((5, 15), (0.5, 0.9, 0.95, 0.99))


@pytest.fixture(scope="module")
def grown() -> Forecaster:
    series = diurnal(3.1, 9)
    forecaster = Forecaster(SETUP, series.start_minute)
    forecaster.advance(series.values)
    return forecaster


def test_a_restored_forecaster_continues_with_identical_numbers(grown: Forecaster) -> None:
    copy = load(dump(grown))
    again = load(dump(copy))
    for value in [0.0, 5_000.0, float("nan"), 100.25] * 5:
        answers = []
        for forecaster in (copy, again):
            forecaster.learn_one(value)
            answers.append([forecaster.forecast(horizon, SETUP.quantiles) for horizon in SETUP.horizons])
        np.testing.assert_array_equal(answers[0], answers[1])


def test_a_restart_changes_nothing(grown: Forecaster) -> None:
    data = dump(grown)
    before = [grown.forecast(horizon, SETUP.quantiles) for horizon in SETUP.horizons]
    copy = load(data)
    np.testing.assert_array_equal(before, [copy.forecast(horizon, SETUP.quantiles) for horizon in SETUP.horizons])
    assert len(data) < 1_000_000


def test_a_full_state_with_all_windows_filled_stays_below_a_megabyte(grown: Forecaster) -> None:
    forecaster = Forecaster(SETUP, 0, None)
    forecaster.advance(stationary(0.5, 4).values)
    forecaster.history = np.random.default_rng(1).exponential(600.0, HISTORY_MINUTES)
    forecaster.install(grown.trees.boosted)
    forecaster.calibration.scores[:] = np.random.default_rng(0).normal(size=forecaster.calibration.scores.shape)
    assert len(dump(forecaster)) <= 1_000_000


def rewritten(data: bytes, **changes: object) -> bytes:
    with np.load(io.BytesIO(data)) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    kept.update(changes)  # type: ignore[arg-type]
    out = io.BytesIO()
    np.savez(out, **kept)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"header": np.array(json.dumps({"version": 99}))}, "version 99"),
        ({"header": np.array("no json")}, "not a saved forecaster"),
        ({"history": np.zeros(5)}, "history"),
        ({"latest": np.zeros((1, 1))}, "latest"),
        ({"trees/value": np.zeros((2, 2), dtype=np.float32)}, "trees/value"),
        ({"trees/feature": np.full((16, 48, 11), 200, dtype=np.uint8)}, "trees/feature"),
        ({"header": np.array({"a": 1}, dtype=object)}, "not a saved forecaster"),
    ],
)
def test_damaged_or_hostile_state_is_refused(grown: Forecaster, changes: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(InvalidStateError, match=says):
        load(rewritten(dump(grown), **changes))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 broken", b"\x80\x04N."])
def test_bytes_that_are_no_archive_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidStateError):
        load(data)


def test_arrivals_are_summed_by_the_minute_and_watched_silence_is_zero() -> None:
    out = ingest(Arrivals(np.array([60.0, 61.0, 200.0]), np.array([5.0, 7.0, 1.0]), watched=[(60, 240), (300, 360)]))
    np.testing.assert_array_equal(out.series.values, [12.0, 0.0, 1.0, np.nan, 0.0])
    assert out.series.start_minute == 1
    assert out.warnings == ()


@pytest.mark.parametrize(
    ("arrivals", "reason", "values"),
    [
        (Arrivals(np.array([0.0, 61.0]), np.array([1.0, -5.0])), "BadDemand", [1.0, np.nan]),
        (Arrivals(np.array([0.0, 61.0]), np.array([np.nan, 5.0])), "BadDemand", [np.nan, 5.0]),
        (Arrivals(np.array([0.0, 61.0]), np.array([1e308, 5.0])), "BadDemand", [np.nan, 5.0]),
        (Arrivals(np.array([61.0, 0.0]), np.array([2.0, 1.0])), "OutOfOrder", [1.0, 2.0]),
        (Arrivals(np.array([0.0, 0.0]), np.array([1.0, 1.0]), ids=("a", "a")), "Duplicate", [1.0]),
        (Arrivals(np.array([0.0, np.nan]), np.array([1.0, 1.0])), "BadTime", [1.0]),
        (Arrivals(np.array([0.0, 1.0, 1e12]), np.array([1.0, 1.0, 1.0])), "BadTime", [2.0]),
        (Arrivals(np.array([0.0, 1.0]), np.array([1.0])), "UnevenColumns", [1.0]),
        (Arrivals(np.array([0.0]), np.array([1.0]), ids=("a", "b")), "IdsIgnored", [1.0]),
        (Arrivals(np.array([0.0, 500.0]), np.array([1.0, 2.0]), watched=[(0, 60)]), "Unwatched", [1.0]),
        (Arrivals(np.array([0.0]), np.array([1.0]), watched=[(60, 0), (0, 60)]), "BadSpan", [1.0]),
        (Arrivals(np.array([0.0]), np.array([1.0]), watched=[(0, 1e15)]), "BadSpan", [1.0]),
        (Arrivals(np.zeros(0), np.zeros(0)), "NothingArrived", []),
    ],
)
def test_bad_input_is_said_and_left_out(arrivals: Arrivals, reason: str, values: list[float]) -> None:
    out = ingest(arrivals)
    assert [warning.reason for warning in out.warnings] == [reason]
    np.testing.assert_array_equal(out.series.values, values)


def test_equal_events_without_ids_are_two_jobs() -> None:
    assert ingest(Arrivals(np.array([0.0, 0.0]), np.array([1.0, 1.0]))).series.values.tolist() == [2.0]


def test_a_million_events_in_a_minute_are_counted_and_said() -> None:
    out = ingest(Arrivals(np.full(1_000_000, 30.0), np.ones(1_000_000)))
    assert out.series.values.tolist() == [1_000_000.0]
    assert [warning.reason for warning in out.warnings] == ["Crowded"]
    forecaster = Forecaster(SETUP, 0, None)
    forecaster.advance(np.concatenate([np.ones(600), out.series.values, np.ones(60)]))
    assert np.isfinite(forecaster.forecast(15, (0.5, 0.99))).all()


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(allow_nan=True), st.floats(allow_nan=True)), max_size=30),
    st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), max_size=3),
)
def test_no_input_crashes_ingest(events: list[tuple[float, float]], spans: list[tuple[float, float]]) -> None:
    seconds = np.array([event[0] for event in events])
    out = ingest(Arrivals(seconds, np.array([event[1] for event in events]), watched=spans))
    assert (np.isnan(out.series.values) | (out.series.values >= 0)).all()
