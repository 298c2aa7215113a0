"""lm-eval's bootstrap replaced by ours: draws that n and the metric fix, vectorised where the metric allows it."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from evalfleet_worker.stats.bootstrap import (
    Bootstrap,
    Counts,
    Progress,
    Values,
    of_counts,
    of_numbers,
    of_samples,
    of_sums,
)

log = logging.getLogger(__name__)

Aggregation = Callable[[Sequence[Any]], float]
KINDS_AT_MOST = 64
"""Different samples up to which a metric is computed from their counts."""


@dataclass
class Bootstraps:
    """The bootstraps of one evaluation, kept for their intervals.

    Attributes:
        progress: takes one line about what is being done.
    """

    progress: Progress
    _known: list[tuple[Aggregation, Sequence[Any], Bootstrap | None]] = field(default_factory=list)

    def standard_error(self, aggregation: Aggregation, samples: Sequence[Any], iters: int = 0) -> float:
        """Takes the place of `lm_eval.api.metrics.bootstrap_stderr`; `iters` is not asked. NaN where a draw fails."""
        name = getattr(aggregation, "__name__", "metric")  # a partial function has no name
        self.progress(f"{name}: interval of {len(samples)} samples by bootstrap")
        found = self._try(aggregation, samples, lambda words: self.progress(f"{name}: {words}"))
        self._known.append((aggregation, samples, found))
        return math.nan if found is None else found.standard_error or 0.0

    def find(self, aggregation: Any, samples: Sequence[Any]) -> Bootstrap | None:
        """The bootstrap of exactly these samples, if there was one."""
        return next((found for f, xs, found in self._known if f is aggregation and _same(xs, samples)), None)

    def _try(self, aggregation: Aggregation, samples: Sequence[Any], progress: Progress) -> Bootstrap | None:
        """A value that has no interval is still a value: some metrics refuse some draws."""
        try:
            return _bootstrap(aggregation, samples, progress)
        except Exception as error:  # noqa: BLE001 - metrics raise what they like
            log.warning("%s has no interval: %s: %s", aggregation, type(error).__name__, error)
            return None


@contextmanager
def fixed_draws(progress: Progress) -> Iterator[Bootstraps]:
    """While this is entered, lm-eval's standard errors without a formula are computed here."""
    from lm_eval.api import metrics

    bootstraps, theirs = Bootstraps(progress), metrics.bootstrap_stderr
    metrics.bootstrap_stderr = bootstraps.standard_error
    try:
        yield bootstraps
    finally:
        metrics.bootstrap_stderr = theirs


def _same(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


def _bootstrap(aggregation: Aggregation, samples: Sequence[Any], progress: Progress) -> Bootstrap:
    numeric, counted, corpus = _tables()
    if aggregation in numeric:
        return of_numbers(samples, numeric[aggregation], progress)
    if aggregation in corpus:
        return _corpus(corpus[aggregation](), samples, progress)
    if aggregation in counted:
        kinds, statistic = Counter(map(tuple, samples)), counted[aggregation]
        if len(kinds) <= KINDS_AT_MOST and (statistic is not _f1 or _are_binary(kinds)):
            return of_counts(list(kinds.values()), statistic(list(kinds)))
    return of_samples(samples, aggregation, progress)


def _tables() -> tuple[dict[Aggregation, Any], dict[Aggregation, Any], dict[Aggregation, Any]]:
    """lm-eval's aggregations of numbers, of counts of (gold, prediction), and of summed statistics of texts."""
    from lm_eval.api import metrics
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    numeric = {metrics.perplexity: _perplexity, metrics.nanmean: _nanmean, metrics.median: _median}
    counted = {metrics.f1_score: _f1, metrics.matthews_corrcoef: _matthews}
    plus_plus = partial(CHRF, word_order=2)
    corpus = {metrics.bleu: BLEU, metrics.chrf: CHRF, metrics.chrfpp: plus_plus, metrics.ter: TER}
    return numeric, counted, corpus


def _perplexity(drawn: Values) -> list[float]:
    """One value per column; a sum along the first axis adds in lm-eval's order, so that values are bitwise its own."""
    return [math.exp(-mean) for mean in np.add.reduce(drawn, axis=0) / len(drawn)]


def _nanmean(drawn: Values) -> list[float]:
    return [float(value) for value in np.nanmean(drawn, axis=0)]


def _median(drawn: Values) -> list[float]:
    middle = len(drawn) // 2
    return [float(value) for value in np.partition(drawn, middle, axis=0)[middle]]


def _are_binary(kinds: Counter[Any]) -> bool:
    return all(label in (0, 1) for kind in kinds for label in kind)


def _f1(kinds: Sequence[tuple[Any, Any]]) -> Callable[[Counts], list[float]]:
    """F1 of class 1 from counts of (gold, prediction); 0 where neither occurs, as scikit-learn says."""
    both = np.asarray([gold == 1 and predicted == 1 for gold, predicted in kinds])
    one = np.asarray([(gold == 1) + (predicted == 1) for gold, predicted in kinds])

    def statistic(drawn: Counts) -> list[float]:
        return _quotient(2.0 * (drawn @ both), (drawn @ one).astype(np.float64))

    return statistic


def _matthews(kinds: Sequence[tuple[Any, Any]]) -> Callable[[Counts], list[float]]:
    """Matthews' correlation of any number of classes from counts of (gold, prediction); 0 where it is undefined."""
    labels = list(dict.fromkeys(label for kind in kinds for label in kind))
    right = np.asarray([gold == predicted for gold, predicted in kinds])
    golds, predictions = (np.asarray([[kind[side] == label for label in labels] for kind in kinds]) for side in (0, 1))

    def statistic(drawn: Counts) -> list[float]:
        n, hits = drawn.sum(axis=1).astype(np.float64), drawn @ right
        gold, predicted = (drawn @ golds).astype(np.float64), (drawn @ predictions).astype(np.float64)
        scale = np.sqrt((n**2 - (predicted**2).sum(axis=1)) * (n**2 - (gold**2).sum(axis=1)))
        covariance = hits * n - (gold * predicted).sum(axis=1)
        return _quotient(covariance, scale)

    return statistic


def _quotient(numerator: Values, denominator: Values) -> list[float]:
    """Element by element; 0 where the denominator is."""
    quotient = np.divide(numerator, denominator, where=denominator > 0, out=np.zeros(len(numerator)))
    return [float(value) for value in quotient]


def _corpus(metric: Any, samples: Sequence[Any], progress: Progress) -> Bootstrap:
    """A metric of sacrebleu from its summed statistics, by which sacrebleu makes its own bootstrap."""
    from lm_eval.api.metrics import _sacreformat

    references, hypotheses = _sacreformat(*zip(*samples, strict=True))
    statistics = metric._extract_corpus_statistics(hypotheses, references)

    def score(sums: Values) -> float:
        return float(metric._compute_score_from_stats(list(sums)).score)

    return of_sums(statistics, score, progress)
