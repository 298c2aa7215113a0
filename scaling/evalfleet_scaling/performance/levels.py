"""How the runs of each key compare to arithmetic: a robust level and a robust spread of log(measured / expected).

    level = sum(w y) / sum(w),   w = min(1, 2.5 s / |y - level|)          (Huber 1964)
    s_k^2 = (8 s^2 + SS_k) / (8 + n_k - 1),   s^2 = (4 s0^2 + sum SS_k) / (4 + sum(n_k - 1))

SS is the sum of squares of residuals cut at 2.5 s, so that a run on a machine that hung moves neither. s is pooled
over a place (GPU and engine); s0 is what noise usually is. A key with few runs borrows its spread from its place.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray

CUT = 2.5
ITERATIONS = 12
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
        weight: sum of the runs' weights, at most their number.
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
        ratios: log(measured / expected), shape (keys, runs), NaN where a key has fewer; at least one run each.
        place: number of each key's GPU and engine, shape (keys,).
        usual_spread: s0.
    """
    known = ~np.isnan(ratios)
    values = np.where(known, ratios, 0.0)
    runs = known.sum(axis=1)
    level = np.nanmedian(ratios, axis=1)
    spread = pooled = np.full(len(runs), usual_spread)
    weights = known.astype(np.float64)
    for _ in range(ITERATIONS):
        residual = np.where(known, values - level[:, None], 0.0)
        weights = np.where(known, 1.0 / np.maximum(1.0, np.abs(residual) / (CUT * spread[:, None])), 0.0)
        level = (weights * values).sum(axis=1) / weights.sum(axis=1)
        squares = (np.minimum(np.abs(residual), CUT * spread[:, None]) ** 2).sum(axis=1)
        pooled = _pooled(squares, runs, place, usual_spread)
        spread = np.sqrt((POOLED_RUNS * pooled**2 + squares) / (POOLED_RUNS + runs - 1))
        spread = np.maximum(spread, SMALLEST_SPREAD)
    return Levels(level, spread, pooled, weights.sum(axis=1), runs.astype(np.int64))


def earlier_runs(ratios: FloatArray, levels: Levels) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Level, spread and weight of each key as they were before each run of it; shape of `ratios`, NaN where unknown.

    The final level and spread decide which runs are outliers and the place's spread is today's; the rest is what came
    before.
    """
    known: BoolArray = ~np.isnan(ratios)
    values = np.where(known, ratios, 0.0)
    residual = np.abs(values - levels.level[:, None])
    weights = np.where(known, 1.0 / np.maximum(1.0, residual / (CUT * levels.spread[:, None])), 0.0)
    weight, total = _before(weights), _before(weights * values)
    level = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
    cut = levels.level[:, None] + np.clip(values - levels.level[:, None], *_reach(levels))
    count, first, second = _before(known.astype(float)), _before(known * cut), _before(known * cut**2)
    squares = np.maximum(second - first**2 / np.maximum(count, 1.0), 0.0)
    pooled = levels.pooled[:, None]
    spread = np.sqrt((POOLED_RUNS * pooled**2 + squares) / (POOLED_RUNS + np.maximum(count - 1, 0)))
    return level, np.maximum(spread, SMALLEST_SPREAD), weight


def _pooled(squares: FloatArray, runs: IntArray, place: IntArray, usual_spread: float) -> FloatArray:
    """Spread of each key's place, shape (keys,)."""
    sums = np.bincount(place, weights=squares)
    degrees = np.bincount(place, weights=(runs - 1).astype(np.float64))
    pooled: FloatArray = np.sqrt((PRIOR_RUNS * usual_spread**2 + sums) / (PRIOR_RUNS + degrees))[place]
    return pooled


def _before(values: FloatArray) -> FloatArray:
    """Sums over the entries before each one, along the runs."""
    result: FloatArray = np.cumsum(values, axis=1) - values
    return result


def _reach(levels: Levels) -> tuple[FloatArray, FloatArray]:
    reach = CUT * levels.spread[:, None]
    return -reach, reach
