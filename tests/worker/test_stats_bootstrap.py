"""Bootstraps beside lm-eval's own, which evaluates the metric anew on every draw."""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from lm_eval.api import metrics

from evalfleet_worker.harness.lm_eval.bootstrap import Bootstraps, fixed_draws
from evalfleet_worker.stats import bootstrap
from evalfleet_worker.stats.bootstrap import draws_of_numbers

WORDS = ["the", "river", "runs", "under", "a", "stone", "bridge", "near", "our", "winter", "garden"]


def silent(_: str) -> None:
    """No progress is shown."""


@pytest.fixture
def bootstraps(monkeypatch: pytest.MonkeyPatch) -> Bootstraps:
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    return Bootstraps(silent)


def theirs(metric: Callable[[Sequence[Any]], float], samples: Sequence[Any], draws: int) -> float:
    return float(metrics.bootstrap_stderr(metric, samples, iters=draws))


@pytest.mark.parametrize("name", ["perplexity", "nanmean", "median"])
def test_a_metric_of_numbers_has_lm_evals_own_draws(
    name: str, bootstraps: Bootstraps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "MOST_DRAWS", 2_000)
    monkeypatch.setattr(bootstrap, "IN_MEMORY", 37 * 100)  # many small steps of one stream
    samples = [float(x) for x in np.random.default_rng(1).normal(-2, 1, 37)]
    metric = getattr(metrics, name)
    assert bootstraps.standard_error(metric, samples) == pytest.approx(theirs(metric, samples, 2_000), rel=1e-13)


def sentences(seed: int, count: int = 12) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    return [(" ".join(draw.sample(WORDS, 6)), " ".join(draw.sample(WORDS, 6))) for _ in range(count)]


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrfpp", "ter"])
def test_a_corpus_metric_from_summed_statistics_is_the_metric_of_every_draw(name: str, bootstraps: Bootstraps) -> None:
    metric, samples = getattr(metrics, name), sentences(2)
    assert bootstraps.standard_error(metric, samples) == pytest.approx(theirs(metric, samples, 1_000), rel=1e-9)
    found = bootstraps.find(metric, samples)
    assert found is not None
    assert found.draws == 1_000
    assert found.low < metric(samples) < found.high  # type: ignore[operator]


def labels(classes: int, count: int = 60) -> list[tuple[int, int]]:
    draw = random.Random(classes)
    golds = [draw.randrange(classes) for _ in range(count)]
    return [(gold, gold if draw.random() < 0.6 else draw.randrange(classes)) for gold in golds]


@pytest.mark.parametrize(("name", "classes"), [("f1_score", 2), ("matthews_corrcoef", 2), ("matthews_corrcoef", 4)])
def test_a_metric_of_counts_agrees_with_scikit_learn(name: str, classes: int, bootstraps: Bootstraps) -> None:
    metric, samples = getattr(metrics, name), labels(classes)
    found = bootstraps.standard_error(metric, samples)
    assert found == pytest.approx(theirs(metric, samples, 1_000), rel=0.1)
    known = bootstraps.find(metric, samples)
    assert known is not None
    assert known.draws == 100_000
    assert known.low < metric(samples) < known.high  # type: ignore[operator]


@pytest.mark.parametrize("name", ["f1_score", "matthews_corrcoef", "bleu"])
def test_a_metric_that_is_the_same_in_every_draw_has_no_interval_and_says_so(name: str, bootstraps: Bootstraps) -> None:
    samples = [("near", "river")] * 5 if name == "bleu" else [(0, 0)] * 9
    metric = getattr(metrics, name)
    assert bootstraps.standard_error(metric, samples) == 0.0
    found = bootstraps.find(metric, samples)
    assert found is not None
    assert (found.standard_error, found.low, found.high) == (None, None, None)
    assert "every draw gives the same value" in found.method


def test_thousands_of_samples_cost_seconds(bootstraps: Bootstraps) -> None:
    started = time.process_time()
    bootstraps.standard_error(metrics.f1_score, labels(2, 40_000))
    bootstraps.standard_error(metrics.chrf, sentences(3, 2_000))
    bootstraps.standard_error(metrics.perplexity, [float(x) for x in np.random.default_rng(1).normal(-2, 1, 1_000)])
    assert time.process_time() - started < 30.0


def test_the_number_of_draws_follows_from_n() -> None:
    assert [draws_of_numbers(n) for n in (1, 10_000, 100_000, 3_000_000)] == [100_000, 100_000, 10_000, 1_000]


def test_a_metric_that_refuses_a_draw_costs_its_interval_alone(bootstraps: Bootstraps) -> None:
    samples = [(index, index) for index in range(70)]

    def picky(drawn: Sequence[Any]) -> float:
        raise ValueError("not these")

    assert np.isnan(bootstraps.standard_error(picky, samples))
    assert bootstraps.find(picky, samples) is None


def test_lm_eval_has_its_own_bootstrap_back_afterwards() -> None:
    before = metrics.bootstrap_stderr
    told: list[str] = []
    with fixed_draws(told.append) as ours:
        stderr = metrics.stderr_for_metric(metrics.perplexity, 100_000)
        assert stderr([-1.0, -2.0]) > 0.0
        assert ours.find(metrics.perplexity, [-1.0, -3.0]) is None
    assert metrics.bootstrap_stderr is before
    assert told[0] == "perplexity: interval of 2 samples by bootstrap"
    assert told[-1] == "perplexity: 100,000 of 100,000 draws"
