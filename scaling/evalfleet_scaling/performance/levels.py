"""How the runs of each key compare to arithmetic: a robust level and a robust spread of log(measured / expected).

    level = sum(a w y) / sum(a w),   w = min(1, (2.5 s / |y - level|)^2),   a = 2^(-age / 8)
    s_k^2 = (8 s^2 + SS_k) / (8 + n_k - 1),   s^2 = (4 s0^2 + sum SS_k) / (4 + sum(n_k - 1))

`age` counts the key's newer runs: a level that has shifted is followed within a few runs, which costs steady ones
little. w is that of an M-estimator whose influence falls again (Hampel 1974), started from the median; SS is the sum of
squares of residuals cut at 2.5 s: a run on a machine that hung moves neither level nor spread. s is pooled over a place
(GPU and engine); s0 is what noise usually is. A key with few runs borrows its spread.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray

CUT = 2.5
HALF_LIFE_RUNS = 8
ITERATIONS = 6
POOLED_RUNS = 8.0
PRIOR_RUNS = 4.0
SMALLEST_SPREAD = 0.005


@dataclass(frozen=True, slots=True)
class Levels:
    """One entry per key.

    Attributes:
        level: log ratio.
        spread: standard deviation of a single run.
        pooled: that of the key's place.
        weight: runs that the level is worth, at most their number.
        runs: number of runs.
    """

    level: FloatArray
    spread: FloatArray
    pooled: FloatArray
    weight: FloatArray
    runs: IntArray


def robust_levels(ratios: FloatArray, place: IntArray, usual_spread: float) -> Levels:
    """Levels and spreads of all keys.

    Args:
        ratios: log(measured / expected), shape (keys, runs), oldest first, NaN behind shorter histories; at least one
            run each.
        place: number of each key's GPU and engine, shape (keys,).
        usual_spread: s0.
    """
    pooled = np.full(len(ratios), usual_spread)
    runs = (~np.isnan(ratios)).sum(axis=1)
    degrees = np.bincount(place, weights=(runs - 1).astype(np.float64))
    for _ in range(2):
        _, squares = _levels(ratios, pooled)
        sums = np.bincount(place, weights=squares)
        pooled = np.sqrt((PRIOR_RUNS * usual_spread**2 + sums) / (PRIOR_RUNS + degrees))[place]
    return _levels(ratios, pooled)[0]


def levels_before(ratios: FloatArray, pooled: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Level, spread and weight of each key as they were before each run of it, shape of `ratios`.

    Before the first run they are 0, the pooled spread, and 0.
    """
    level, weight = np.zeros_like(ratios), np.zeros_like(ratios)
    spread = np.repeat(pooled[:, None], ratios.shape[1], axis=1)
    for column in range(1, ratios.shape[1]):
        rows = np.flatnonzero(~np.isnan(ratios[:, column]))
        before, _ = _levels(ratios[rows, :column], pooled[rows])
        level[rows, column], spread[rows, column], weight[rows, column] = before.level, before.spread, before.weight
    return level, spread, weight


def _levels(ratios: FloatArray, pooled: FloatArray) -> tuple[Levels, FloatArray]:
    """Levels with a given pooled spread, and the cut sum of squares of each key."""
    known = ~np.isnan(ratios)
    values, runs = np.where(known, ratios, 0.0), known.sum(axis=1)
    recent = _recency(known, runs)
    level = _median(np.where(recent >= 0.5, ratios, np.inf))
    spread = pooled
    for _ in range(ITERATIONS):
        distance = np.where(known, np.abs(values - level[:, None]), 0.0)
        limit = CUT * spread[:, None]
        weights = recent / np.maximum(1.0, distance / limit) ** 2
        level = (weights * values).sum(axis=1) / weights.sum(axis=1)
        squares = (np.minimum(distance, limit) ** 2).sum(axis=1)
        spread = np.sqrt((POOLED_RUNS * pooled**2 + squares) / (POOLED_RUNS + runs - 1))
        spread = np.maximum(spread, SMALLEST_SPREAD)
    worth = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)  # Kish's effective sample size
    return Levels(level, spread, pooled, worth, runs.astype(np.int64)), squares


def _median(values: FloatArray) -> FloatArray:
    """Median of the finite values of each row (numpy's nanmedian takes ten times as long)."""
    ordered, count = np.sort(values, axis=1), np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    result: FloatArray = (ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2
    return result


def _recency(known: BoolArray, runs: IntArray) -> FloatArray:
    """2^(-age / half-life) of each run, 0 where there is none."""
    age = runs[:, None] - 1 - np.arange(known.shape[1])
    return np.where(known, 0.5 ** (np.maximum(age, 0) / HALF_LIFE_RUNS), 0.0)
