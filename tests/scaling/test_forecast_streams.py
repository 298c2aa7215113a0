"""Running statistics give the same numbers whatever the size of the pieces they are fed."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.forecast.histogram import FadingHistogram
from evalfleet_scaling.forecast.interface import BatchMember, Member, Series, lead_time_demand, replay, trailing_sum
from evalfleet_scaling.forecast.streams import Delay, DiscountedMean, hold
from evalfleet_scaling.forecast.window import (
    Window,
    rolling_rank,
    trailing_max_new,
    trailing_mean_new,
)

GAPPY = st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1e6)), min_size=1, max_size=80)


def pieces(values: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    return [part for part in np.split(values, sorted({cut % len(values) for cut in cuts})) if len(part)]


@settings(max_examples=60, deadline=None)
@given(GAPPY, st.lists(st.integers(0, 79), max_size=4))
def test_a_discounted_mean_in_pieces_equals_the_mean_at_once(values: list[float], cuts: list[int]) -> None:
    rows = np.array(values)[:, None]
    at_once = DiscountedMean(np.array([0.7])).advance(rows)
    mean = DiscountedMean(np.array([0.7]))
    in_pieces = np.concatenate([mean.advance(part) for part in pieces(rows, cuts)])
    np.testing.assert_allclose(in_pieces, at_once, rtol=1e-9, atol=1e-9)


def test_a_discounted_mean_of_a_constant_is_the_constant_from_the_first_minute() -> None:
    means = DiscountedMean(np.array([0.99, 0.1])).advance(np.full((5, 2), 3.0))
    np.testing.assert_allclose(means, 3.0)


def test_a_month_of_silence_in_the_data_holds_the_last_mean() -> None:
    mean = DiscountedMean(np.array([0.4]))
    mean.advance(np.array([[2.0]]))
    assert mean.advance(np.full((43_200, 1), np.nan))[-1, 0] == pytest.approx(2.0)


def test_hold_fills_gaps_from_above_and_the_top_from_before() -> None:
    filled = hold(np.array([[np.nan], [1.0], [np.nan]]), np.array([7.0]))
    assert filled[:, 0].tolist() == [7.0, 1.0, 1.0]


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1, 1], [6], [4, 2], [2, 4]])
def test_a_delay_gives_each_row_back_later(sizes: list[int]) -> None:
    delay = Delay(3, (1,))
    rows = np.arange(6.0)[:, None]
    out = np.concatenate([delay.advance(part) for part in np.split(rows, np.cumsum(sizes)[:-1])])
    np.testing.assert_array_equal(out[:, 0], [np.nan, np.nan, np.nan, 0, 1, 2])


def test_lead_time_demand_is_what_arrives_after_the_origin_and_unknown_over_gaps() -> None:
    values = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])
    np.testing.assert_array_equal(lead_time_demand(values, 2), [np.nan, np.nan, 9.0, 11.0, np.nan, np.nan])
    np.testing.assert_array_equal(trailing_sum(values, 2), [np.nan, 3.0, np.nan, np.nan, 9.0, 11.0])


@pytest.mark.parametrize("bad", [np.array([[1.0]]), np.array([-1.0]), np.array([np.inf])])
def test_a_series_refuses_what_is_not_demand(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="series"):
        Series(bad)


@settings(max_examples=40, deadline=None)
@given(GAPPY, st.integers(1, 30))
def test_rolling_functions_agree_with_their_definition(values: list[float], width: int) -> None:
    array = np.array(values)
    first = len(array) // 2
    window = Window(array, first, 0)
    means = trailing_mean_new(window, width)
    largest = trailing_max_new(array, first, width)
    for row, end in enumerate(range(first + 1, len(array) + 1)):
        part = array[max(0, end - width) : end]
        known = part[~np.isnan(part)]
        assert largest[row] == (known.max() if len(known) else 0.0)
        if len(known):
            assert means[row] == pytest.approx(known.mean(), abs=1e-6)
        else:
            assert np.isnan(means[row])


def test_the_rolling_rank_is_the_interpolated_conformal_rank() -> None:
    rng = np.random.default_rng(1)
    entries = rng.gamma(0.5, 1.0, 300)
    ends = np.arange(1, 301)
    ranks = rolling_rank(entries, ends, 99, 0.9)
    assert np.isnan(ranks[0])
    for end in (5, 50, 99, 150, 300):
        part = np.sort(entries[max(0, end - 99) : end])
        rank = min(0.9 * (len(part) + 1), len(part))
        lower = int(rank) - 1
        upper = min(lower + 1, len(part) - 1)
        assert ranks[end - 1] == pytest.approx(part[lower] + (rank - int(rank)) * (part[upper] - part[lower]))
    np.testing.assert_allclose(rolling_rank(entries, ends[200:203], 99, 0.9), ranks[200:203])


@settings(max_examples=40, deadline=None)
@given(GAPPY, st.lists(st.integers(0, 79), max_size=4))
def test_a_fading_histogram_in_pieces_equals_the_one_at_once(values: list[float], cuts: list[int]) -> None:
    samples = np.array(values)
    at_once = FadingHistogram(0.9).advance(samples, (0.5, 0.9))
    histogram = FadingHistogram(0.9)
    in_pieces = np.concatenate([histogram.advance(part, (0.5, 0.9)) for part in pieces(samples, cuts)])
    np.testing.assert_array_equal(in_pieces, at_once)


def test_a_fading_histogram_forgets_slowly_and_leaves_gaps_out() -> None:
    samples = np.array([np.nan, 100.0, 10.0, np.nan, 10.0])
    median = FadingHistogram(0.5).advance(samples, (0.5,))[:, 0]
    assert np.isnan(median[0])
    assert 100.0 < median[1] <= 106.0
    assert ((median[2:] > 10.0) & (median[2:] <= 11.5)).all()
    largest = FadingHistogram(0.5).advance(samples, (0.99,))[:, 0]
    assert largest[-1] > 100.0


class Echo:
    """A member without a batch replay: what came last comes again."""

    name = "echo"
    last = 0.0

    def learn_one(self, value: float) -> None:
        self.last = value

    def forecast(self, horizon_minutes: int, quantiles: Sequence[float]) -> np.ndarray:
        return np.full(len(quantiles), self.last * horizon_minutes)


def test_a_member_without_a_batch_replay_is_replayed_minute_by_minute() -> None:
    assert isinstance(Echo(), Member)
    assert not isinstance(Echo(), BatchMember)
    out = replay(lambda _: Echo(), Series(np.array([1.0, 2.0])), (1, 5), (0.5, 0.9))
    np.testing.assert_array_equal(out, [[[1, 1], [5, 5]], [[2, 2], [10, 10]]])
