"""From the history to everything that answers need: levels, effects, their deviations, and measured miscoverage.

Nothing here is kept between calls: the same history gives the same fit, whatever order it was learnt in.
"""

from collections import defaultdict
from dataclasses import dataclass
from math import log

import numpy as np

from evalfleet_scaling.arrays import FloatArray
from evalfleet_scaling.performance.calibrate import Stretch, stretch
from evalfleet_scaling.performance.drift import PlaceDrift, find_drift
from evalfleet_scaling.performance.effects import (
    Belief,
    Deviations,
    Names,
    Posterior,
    Sharing,
    believe_without_own,
    condition,
    sharing,
)
from evalfleet_scaling.performance.fixed_part import fixed_parts
from evalfleet_scaling.performance.history import RUNS_PER_KEY, History
from evalfleet_scaling.performance.interface import FinishedRun, Key, Quantity, Work
from evalfleet_scaling.performance.levels import Levels, levels_before, robust_levels
from evalfleet_scaling.performance.measurements import Measurements, usual
from evalfleet_scaling.performance.roofline import expected

FITTED = ("model", "task", "model_place", "task_place", "model_task", "size_place", "key")
STEPS = (2.0, 0.5)
PASSES = 3
DOUBT = 0.7
"""Prior: the logarithm of a deviation is within this of its usual value, two times of three."""
FAR = 3.0
SIZE_DEVIATION = 0.05
"""Doubt about the level of a run e times as large as those before."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Numbers of all names met."""

    place: dict[tuple[str, str], int]
    model: dict[str, int]
    task: dict[str, int]

    def names(self, keys: list[Key], sizes: list[float]) -> Names:
        """Numbers of the keys' names, -1 for a name not met, and sizes of their models."""
        return Names(
            np.array([self.place.get((key.gpu, key.engine), -1) for key in keys], dtype=np.int64),
            np.array([self.model.get(key.model, -1) for key in keys], dtype=np.int64),
            np.array([self.task.get(key.task, -1) for key in keys], dtype=np.int64),
            np.array(sizes),
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """What is known of one quantity.

    Attributes:
        index: row of each key that ran.
        size: mean log of the expected value of each key's runs, shape (keys,).
        fixed: what a run costs whatever its size, before the level; shape (places,).
        drifts: how fast each place is at the moment.
        seen: stretch of intervals of keys that ran; `unseen`: of keys that did not.
    """

    quantity: Quantity
    vocabulary: Vocabulary
    index: dict[Key, int]
    names: Names
    levels: Levels
    size: FloatArray
    fixed: FloatArray
    drifts: tuple[PlaceDrift, ...]
    posterior: Posterior
    seen: Stretch
    unseen: Stretch


def effective_key(quantity: Quantity, key: Key) -> Key:
    """The key as far as the quantity depends on it: starting an engine does not depend on the task."""
    return Key(key.model, "-", key.gpu, key.engine) if quantity is Quantity.STARTUP_SECONDS else key


def size_of_model(quantity: Quantity, work: Work) -> float:
    """Size for the effect of size; constant where it would let an answer fall as the planned memory grows."""
    return log(max(work.memory_bytes, 1.0)) if quantity is Quantity.SCORING_SECONDS else 0.0


def fit(history: History, quantity: Quantity) -> Fit | None:
    """Learn from the history; None while nothing of the quantity was measured."""
    runs = _runs_by_key(history, quantity)
    if not runs:
        return None
    keys, prior = list(runs), usual(quantity)
    vocabulary = _vocabulary(keys)
    names = vocabulary.names(keys, [size_of_model(quantity, members[-1].work) for members in runs.values()])
    shared, measured = sharing(names, names), _measurements(list(runs.values()), quantity)
    fixed = fixed_parts(measured, names, shared, prior)
    ratios, size = measured.ratios(fixed[names.place]), measured.sizes(fixed[names.place])
    drift = find_drift(ratios, measured.finished_seconds, names.place, prior.spread)
    levels = robust_levels(ratios - drift.before, names.place, prior.spread)
    posterior = _settle(shared, levels)
    scores = _scores(ratios - drift.before, drift.variance + _size_variance(size), levels, posterior)
    related = np.bincount(names.place)[names.place] > 1
    seen, unseen = stretch(scores[:, 1:][~np.isnan(scores[:, 1:])]), stretch(scores[:, 0][related])
    index = {key: row for row, key in enumerate(keys)}
    typical, drifts = np.nanmean(size, axis=1), drift.places
    return Fit(quantity, vocabulary, index, names, levels, typical, fixed, drifts, posterior, seen, unseen)


def _runs_by_key(history: History, quantity: Quantity) -> dict[Key, list[FinishedRun]]:
    """The newest runs of each key that measured the quantity, keys in the order of their names."""
    runs: dict[Key, list[FinishedRun]] = defaultdict(list)
    for run in history.runs:
        if run.measured(quantity) is not None:
            runs[effective_key(quantity, run.key)].append(run)
    ordered = sorted(runs, key=lambda key: (key.gpu, key.engine, key.model, key.task))
    return {key: runs[key][-RUNS_PER_KEY:] for key in ordered}


def _vocabulary(keys: list[Key]) -> Vocabulary:
    return Vocabulary(
        {place: number for number, place in enumerate(dict.fromkeys((key.gpu, key.engine) for key in keys))},
        {name: number for number, name in enumerate(dict.fromkeys(key.model for key in keys))},
        {name: number for number, name in enumerate(dict.fromkeys(key.task for key in keys))},
    )


def _measurements(runs: list[list[FinishedRun]], quantity: Quantity) -> Measurements:
    """Measured and expected values, shape (keys, longest history), NaN behind the shorter ones."""
    shape = (len(runs), max(len(members) for members in runs))
    measured, arithmetic, finished = (np.full(shape, np.nan) for _ in range(3))
    for row, members in enumerate(runs):
        for column, run in enumerate(members):
            value = run.measured(quantity)
            assert value is not None, "runs without the measurement were left out"
            measured[row, column] = value
            arithmetic[row, column] = expected(quantity, run.work, run.key.gpu)
            finished[row, column] = run.finished_seconds
    return Measurements(measured, arithmetic, finished)


def _settle(shared: Sharing, levels: Levels) -> Posterior:
    """Deviations of greatest posterior probability; then keys far from what their names say are set apart."""
    noise, level = levels.spread**2 / levels.weight, levels.level
    extra, doubt = np.zeros(len(level)), np.zeros(len(level))
    posterior = _most_probable(shared, level, noise, extra)
    for _ in range(2):
        belief = believe_without_own(posterior, level, noise + doubt)
        variance = belief.variance + noise + doubt
        beyond = np.maximum(np.abs(level - belief.mean) / np.sqrt(variance) - FAR, 0.0)
        if not beyond.any():
            break
        # Half is taken for a real property of the key, half for an accident, which repeated runs make improbable.
        extra = extra + beyond**2 * variance / 2
        doubt = doubt + beyond**2 * variance / 2 / levels.runs**3
        posterior = _most_probable(shared, level, noise + doubt, extra)
    return posterior


def _most_probable(shared: Sharing, level: FloatArray, noise: FloatArray, extra: FloatArray) -> Posterior:
    """Coordinate search over the deviations: log evidence + log-normal prior around the usual values."""
    best = condition(shared, Deviations(), level, noise, extra)
    score = best.log_evidence
    for _ in range(PASSES):
        before = score
        for effect in FITTED:
            for step in STEPS:
                tried = condition(shared, best.deviations.scaled(effect, step), level, noise, extra)
                reached = tried.log_evidence - _surprise(tried.deviations)
                if reached > score + 1e-9:
                    best, score = tried, reached
                    break
        if score == before:
            break
    return best


def _surprise(deviations: Deviations) -> float:
    usual_ones = Deviations()
    steps = (np.log(getattr(deviations, effect) / getattr(usual_ones, effect)) for effect in FITTED)
    return float(sum(0.5 * (step / DOUBT) ** 2 for step in steps))


def _scores(ratios: FloatArray, besides: FloatArray, levels: Levels, posterior: Posterior) -> FloatArray:
    """How many standard deviations each run lay from its prediction by earlier runs only, shape of `ratios`.

    `besides` is variance of other origin, of the same shape.
    """
    without = believe_without_own(posterior, levels.level, levels.spread**2 / levels.weight)
    level, spread, weight = levels_before(ratios, levels.pooled)
    mean, variance = _joined(without, level, weight / spread**2)
    scores: FloatArray = (ratios - mean) / np.sqrt(variance + spread**2 + besides)
    return scores


def _size_variance(size: FloatArray) -> FloatArray:
    """Doubt about each run's level as it was smaller or larger than those before it."""
    number = np.arange(1, size.shape[1] + 1)
    distance = np.where(number > 1, size - (np.cumsum(size, axis=1) - size) / np.maximum(number - 1, 1), 0.0)
    result: FloatArray = (SIZE_DEVIATION * distance) ** 2
    return result


def _joined(without: Belief, level: FloatArray, precision: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Belief from the other keys, joined with the earlier runs of the key itself."""
    others = 1.0 / without.variance[:, None]
    variance = 1.0 / (others + precision)
    return variance * (others * without.mean[:, None] + precision * level), variance
