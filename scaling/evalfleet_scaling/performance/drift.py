"""How fast a place is at the moment: what its latest runs, of whatever key, had in common beyond their keys' levels.

    drift(t) = sum(a r) / (sum(a) + 1/2),   a = 2^(-(t - t_run) / T),   r = log(measured / expected) - level of the key

A driver is changed, a node is shared with a busy neighbour: then all keys are slower at once, and a key need not run
again to know it. T is between 20 s and a day, or there is no drift: whichever makes the runs of each
key agree best, and none unless the gain is clear. Values are of the time before each run, so that none explains itself.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray
from evalfleet_scaling.performance.levels import CUT, PRIOR_RUNS, robust_levels

HALF_LIVES_SECONDS = (20.0, 60.0, 300.0, 1800.0, 14400.0, 86400.0)
PRIOR_WEIGHT = 0.5
PASSES = 3
CLEAR_GAIN = 4.0
"""Log-probability that a drift must gain."""


@dataclass(frozen=True, slots=True)
class PlaceDrift:
    """The drift of one place after its last run.

    Attributes:
        half_life_seconds: T; 0 = no drift.
        total, weight: the sums of the formula at `last_seconds`.
        deviation: how far the place has drifted, usually.
    """

    half_life_seconds: float = 0.0
    total: float = 0.0
    weight: float = 0.0
    last_seconds: float = 0.0
    deviation: float = 0.0

    def at(self, now_seconds: float) -> tuple[float, float]:
        """Drift and its variance; a clock that went back is taken for standing still."""
        if self.half_life_seconds == 0.0:
            return 0.0, 0.0
        faded = 0.5 ** (max(now_seconds - self.last_seconds, 0.0) / self.half_life_seconds)
        doubt = self.deviation**2 * PRIOR_WEIGHT / (faded * self.weight + PRIOR_WEIGHT)
        return faded * self.total / (faded * self.weight + PRIOR_WEIGHT), doubt


@dataclass(frozen=True, slots=True)
class Drift:
    """Drifts of all places, and what each run found: value and variance, shape (keys, runs), 0 without a run."""

    places: tuple[PlaceDrift, ...]
    before: FloatArray
    variance: FloatArray


def find_drift(ratios: FloatArray, times: FloatArray, place: IntArray, usual_spread: float) -> Drift:
    """The drift of every place.

    Args:
        ratios: log(measured / expected), shape (keys, runs), NaN behind shorter histories.
        times: when each run finished, seconds, same shape.
        place: number of each key's place, shape (keys,).
        usual_spread: of runs of one key.
    """
    before, variance, places = np.zeros_like(ratios), np.zeros_like(ratios), []
    for number in range(int(place.max()) + 1):
        rows = np.flatnonzero(place == number)
        found, values, doubts = _of_place(ratios[rows], times[rows], usual_spread)
        places.append(found)
        before[rows], variance[rows] = values, doubts
    return Drift(tuple(places), before, variance)


def _of_place(ratios: FloatArray, times: FloatArray, usual_spread: float) -> tuple[PlaceDrift, FloatArray, FloatArray]:
    best, none = PlaceDrift(), np.zeros_like(ratios)
    values, doubts = none, none
    least, degrees = _spread(ratios, usual_spread)
    for half_life in HALF_LIVES_SECONDS if degrees > PRIOR_RUNS else ():
        found, tried, doubt = _follow(ratios, times, usual_spread, half_life)
        spread, _ = _spread(ratios - tried, usual_spread)
        if degrees * np.log(least / spread) > (CLEAR_GAIN if best.half_life_seconds == 0.0 else 0.0):
            best, values, doubts, least = found, tried, doubt, spread
    return best, values, doubts


def _spread(ratios: FloatArray, usual_spread: float) -> tuple[float, float]:
    """Pooled spread of runs around their key's level, and its degrees of freedom."""
    levels = robust_levels(ratios, np.zeros(len(ratios), dtype=np.int64), usual_spread)
    return float(levels.pooled[0]), PRIOR_RUNS + float((levels.runs - 1).sum())


def _follow(
    ratios: FloatArray, times: FloatArray, usual_spread: float, half_life: float
) -> tuple[PlaceDrift, FloatArray, FloatArray]:
    """Levels and drift in turn, each given the other."""
    before, variance, found = np.zeros_like(ratios), np.zeros_like(ratios), PlaceDrift()
    for _ in range(PASSES):
        levels = robust_levels(ratios - before, np.zeros(len(ratios), dtype=np.int64), usual_spread)
        reach = CUT * levels.spread[:, None]
        residual = before + np.clip(ratios - before - levels.level[:, None], -reach, reach)
        found, before, variance = _walk(residual, times, half_life)
    return found, before, variance


def _walk(residual: FloatArray, times: FloatArray, half_life: float) -> tuple[PlaceDrift, FloatArray, FloatArray]:
    """Drift before each run in the order of time; runs that finished together do not see each other's."""
    rows, columns = np.nonzero(~np.isnan(residual))
    order = np.argsort(times[rows, columns], kind="stable")
    before, weights = np.zeros_like(residual), np.zeros_like(residual)
    total = weight = 0.0
    last = float(times[rows[order[0]], columns[order[0]]])
    waiting: list[float] = []
    for row, column in zip(rows[order], columns[order], strict=True):
        now = float(times[row, column])
        if now > last:
            fade = 0.5 ** ((now - last) / half_life)
            total, weight, last = fade * (total + sum(waiting)), fade * (weight + len(waiting)), now
            waiting = []
        before[row, column], weights[row, column] = total / (weight + PRIOR_WEIGHT), weight
        waiting.append(float(residual[row, column]))
    total, weight = total + sum(waiting), weight + len(waiting)
    deviation = float(np.sqrt(np.mean(before[rows, columns] ** 2)))
    variance = np.where(np.isnan(residual), 0.0, deviation**2 * PRIOR_WEIGHT / (weights + PRIOR_WEIGHT))
    return PlaceDrift(half_life, total, weight, last, deviation), before, variance
