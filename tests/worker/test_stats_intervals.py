"""Intervals against values known from the literature, from scipy and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from evalfleet_worker.stats.aggregate import Aggregation, interval_of
from evalfleet_worker.stats.intervals import (
    SMALL_N,
    clopper_pearson,
    clustered_mean,
    mean,
    pearson,
    proportion,
    ratio,
    spearman,
    wilson,
)


def test_wilson_interval_equals_the_published_example() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I: 81/263, 15/148, 0/20, 1/29, method 3.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), bounds in published.items():
        assert wilson(successes, n) == pytest.approx(bounds, abs=5e-5)


def test_clopper_pearson_interval_equals_the_published_example() -> None:
    # Newcombe 1998, the same examples, method 5.
    published = {
        (81, 263): (0.2527, 0.3676),
        (15, 148): (0.0578, 0.1617),
        (0, 20): (0.0, 0.1684),
        (1, 29): (0.0009, 0.1776),
    }
    for (successes, n), bounds in published.items():
        assert clopper_pearson(successes, n) == pytest.approx(bounds, abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 10, 299, 300, 5000])
def test_a_proportion_agrees_with_scipy_at_every_count(n: int) -> None:
    for successes in {0, 1, n // 2, n - 1, n}:
        found = proportion(successes, n)
        expected = stats.binomtest(successes, n).proportion_ci(method="exact" if n < SMALL_N else "wilson")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_all_right_on_few_samples_does_not_claim_certainty() -> None:
    found = proportion(20, 20)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_the_mean_has_the_standard_error_of_lm_eval_and_the_interval_of_student() -> None:
    values = np.random.default_rng(0).normal(3, 2, 50)
    found, expected = mean(values), stats.ttest_1samp(values, 0).confidence_interval()
    assert found.standard_error == pytest.approx(stats.sem(values), abs=1e-15)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_single_value_has_no_interval() -> None:
    found = mean([0.5])
    assert (found.value, found.standard_error, found.low, found.high) == (0.5, None, None, None)


def test_clusters_of_one_sample_have_the_ordinary_standard_error() -> None:
    values = np.random.default_rng(1).normal(0, 1, 40)
    assert clustered_mean(values, list(range(40))).standard_error == pytest.approx(stats.sem(values), abs=1e-15)


def test_repeating_every_sample_does_not_narrow_the_clustered_interval() -> None:
    values = np.random.default_rng(2).normal(0, 1, 30)
    once = mean(values)
    repeated = clustered_mean(np.repeat(values, 4), [f"document {i}" for i in range(30) for _ in range(4)])
    assert repeated.standard_error == pytest.approx(once.standard_error, abs=1e-15)
    assert mean(np.repeat(values, 4)).standard_error < 0.6 * repeated.standard_error


def test_the_ratio_of_equal_weights_is_the_mean() -> None:
    values = np.random.default_rng(3).normal(-2, 1, 60)
    weights = np.full(60, 7.0)
    assert ratio(7.0 * values, weights).standard_error == pytest.approx(stats.sem(values), abs=1e-12)


def test_the_ratio_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(4), 0
    for _ in range(400):
        weights = generator.integers(1, 40, 80).astype(float)
        found = ratio(-1.5 * weights + generator.normal(0, 3, 80), weights)
        covered += found.low <= -1.5 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("correlation", "reference"), [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_correlations_are_scipys_and_their_intervals_cover_the_truth(correlation, reference) -> None:
    generator = np.random.default_rng(5)
    truth = 0.6 if correlation is pearson else 6 / math.pi * math.asin(0.3)
    covered = 0
    for _ in range(300):
        first, second = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 100).T
        found = correlation(first, second)
        assert found.value == pytest.approx(reference(first, second).statistic)
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.99


def test_perplexity_is_the_exponential_of_the_mean_and_keeps_the_order_of_its_bounds() -> None:
    found = interval_of([-1.0, -2.0, -3.0, -2.5], Aggregation.PERPLEXITY)
    assert found.value == pytest.approx(math.exp(2.125))
    assert found.low < found.value < found.high
    assert found.standard_error == pytest.approx(found.value * stats.sem([1.0, 2.0, 3.0, 2.5]))


def test_bits_per_byte_is_the_weighted_log_likelihood_in_bits() -> None:
    found = interval_of([(-10.0, 5.0), (-6.0, 4.0)], Aggregation.BITS_PER_BYTE)
    assert found.value == pytest.approx(16 / 9 / math.log(2))
    assert found.low < found.value < found.high


def test_word_perplexity_weighs_documents_by_their_words() -> None:
    assert interval_of([(-10.0, 5.0), (-6.0, 4.0)], Aggregation.WEIGHTED_PERPLEXITY).value == pytest.approx(
        math.exp(16 / 9)
    )


def test_a_metric_without_a_formula_has_no_invented_interval() -> None:
    found = interval_of([(0, 1), (1, 1)], Aggregation.OTHER)
    assert (found.low, found.high, found.n) == (None, None, 2)


@pytest.mark.parametrize("clusters", [[-1, -1, -2, -2], ["a", "a", "b", "b"], [None, None, 0, 0]])
def test_clusters_are_told_apart_by_what_they_are_not_by_their_hash(clusters: list[object]) -> None:
    found = clustered_mean([0.0, 1.0, 1.0, 1.0], clusters)
    assert found.method == "clustered mean (2 clusters)"
    # residuals -.75 + .25 = -.5 and .5: sqrt(2 / 1 * (.25 + .25)) / 4
    assert found.standard_error == pytest.approx(0.25)


def test_a_perplexity_whose_upper_bound_is_beyond_all_numbers_is_unbounded_not_a_crash() -> None:
    found = interval_of([-1.0, -200.0], Aggregation.PERPLEXITY)
    assert found.value == pytest.approx(math.exp(100.5))
    assert found.low is not None
    assert found.high is None
    assert interval_of([-1000.0, -1000.5], Aggregation.PERPLEXITY).value == math.inf
