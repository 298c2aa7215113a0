"""The interval of a metric from its per-sample values and the way they are aggregated."""

import math
from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import Any

from evalfleet_worker.stats.intervals import Interval, clustered_mean, mean, proportion, ratio, transformed

NO_FORMULA = "no formula"


class Aggregation(StrEnum):
    """How per-sample values become the metric; the definitions are lm-eval's."""

    MEAN = "mean"
    PERPLEXITY = "perplexity"
    """exp(-mean(log-likelihood))"""
    WEIGHTED_PERPLEXITY = "weighted_perplexity"
    """exp(-sum(log-likelihood) / sum(weight))"""
    BITS_PER_BYTE = "bits_per_byte"
    """-sum(log-likelihood) / sum(bytes) / log(2)"""
    OTHER = "other"


def interval_of(
    values: Sequence[Any], aggregation: Aggregation, clusters: Sequence[Hashable] | None = None
) -> Interval:
    """Interval of a metric; without a formula only `n` is known (value NaN).

    Args:
        values: one entry per sample: numbers, or (log-likelihood, weight) pairs for weighted aggregations.
        aggregation: how they become the metric.
        clusters: source of each sample, where samples share sources.
    """
    if not values:
        return Interval(math.nan, None, None, None, 0, "no samples")
    match aggregation:
        case Aggregation.MEAN if _numeric(values):
            return _mean(values, clusters)
        case Aggregation.PERPLEXITY if _numeric(values):
            return _exponential(_mean(values, clusters))
        case Aggregation.WEIGHTED_PERPLEXITY:
            return _exponential(_ratio(values))
        case Aggregation.BITS_PER_BYTE:
            slope = -1 / math.log(2)
            return transformed(_ratio(values), lambda nats: slope * nats, slope)
        case _:
            return Interval(math.nan, None, None, None, len(values), NO_FORMULA)


def _mean(values: Sequence[float], clusters: Sequence[Hashable] | None) -> Interval:
    if clusters is not None:
        return clustered_mean(values, clusters)
    if all(value in (0, 1) for value in values):
        return proportion(int(sum(values)), len(values))
    return mean(values)


def _ratio(values: Sequence[tuple[float, float]]) -> Interval:
    return ratio([value for value, _ in values], [weight for _, weight in values])


def _exponential(nats: Interval) -> Interval:
    """Perplexity exp(-nats) of a mean log-likelihood."""
    return transformed(nats, lambda value: _exp(-value), _exp(-nats.value))


def _exp(value: float) -> float:
    """e^value, infinite where a float cannot hold it."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def _numeric(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) or hasattr(value, "__float__") for value in values)
