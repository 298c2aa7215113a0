"""Stage 3: boosted trees on the residual of SES and on demand itself, both calibrated afterwards like any model.

Training is a pure function of a `TrainingSet`, so that the caller can run it in a child process; nothing here trains by
itself. A model that cannot be trained is simply not replaced.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.calibrate import score_unit
from evalfleet_scaling.forecast.features import PAST_MINUTES, features
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, lead_time_demand
from evalfleet_scaling.forecast.models import Raw, Scene, Setup
from evalfleet_scaling.forecast.trees import Forest, fit_quantile
from evalfleet_scaling.forecast.window import Window, trailing_mean_new

TRAINING_MINUTES = 14 * MINUTES_PER_DAY
HISTORY_MINUTES = TRAINING_MINUTES + PAST_MINUTES
STRIDE = 5
"""Every fifth minute is a training row: neighbours share most of their target."""
LEAST_ROWS = 200

Fit = Callable[[FloatArray, FloatArray, float, int], Forest]
"""Fits one forest: rows, targets, level, least rows of a leaf. A pure function, so that what it gave may be kept."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """All that training needs: the recent series and the size of a typical job."""

    setup: Setup
    window: Window
    typical: float


@dataclass(frozen=True, slots=True)
class Boosted:
    """Trained trees: one forest per kind (residual, direct), horizon and quantile, in that order."""

    forests: tuple[Forest, ...]
    typical: float


@dataclass(frozen=True, slots=True)
class Frame:
    """Features and units of some minutes, shapes (n, features), (n, horizons), (n, horizons)."""

    rows: FloatArray
    level: FloatArray
    floor: FloatArray

    @property
    def unit(self) -> FloatArray:
        """Scale of the residual."""
        return score_unit(self.level, self.floor)


def frame(window: Window, setup: Setup, typical: float) -> Frame:
    """Features of the new minutes of a window with what the two targets are measured in."""
    rows, level = features(window)
    horizons = np.asarray(setup.horizons, dtype=np.float64)
    day = np.nan_to_num(trailing_mean_new(window, MINUTES_PER_DAY))
    return Frame(rows, level[:, None] * horizons, np.maximum(day[:, None] * horizons, typical))


def train(training: TrainingSet, fit: Fit = fit_quantile) -> Boosted | None:
    """Fit all forests, or None where there is too little to learn from. Seconds of CPU; pure."""
    # Loads OpenMP: a limit set before that would not reach it, and two threads on a busy host take many times as long.
    import sklearn.ensemble  # noqa: F401
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        forests = tuple(_fit_all(training, fit))
    expected = 2 * len(training.setup.horizons) * len(training.setup.quantiles)
    return Boosted(forests, training.typical) if len(forests) == expected else None


def _fit_all(training: TrainingSet, fit: Fit) -> Iterator[Forest]:
    window, setup = training.window, training.setup
    data = frame(window, setup, training.typical)
    residual, direct = targets(data, window, setup)
    for target in (residual, direct):
        for column in range(len(setup.horizons)):
            chosen = np.flatnonzero(~np.isnan(target[:, column]))[::-1][::STRIDE][::-1]
            if len(chosen) < LEAST_ROWS:
                return
            rows = data.rows[chosen]
            for level in setup.quantiles:
                yield fit(rows, target[chosen, column], level, samples_per_leaf(level))


def targets(data: Frame, window: Window, setup: Setup) -> tuple[FloatArray, FloatArray]:
    """(D - SES) / unit and log(1 + D / floor), each of shape (n, horizons)."""
    columns = [lead_time_demand(window.values, horizon)[window.first :] for horizon in setup.horizons]
    demand = np.stack(columns, axis=1)
    return (demand - data.level) / data.unit, np.log1p(demand / data.floor)


def samples_per_leaf(level: float) -> int:
    """About 4.5 / (1 - a) rows, so that the upper quantile of a leaf is not its maximum; at least 30."""
    return max(30, round(4.5 / (1.0 - level)))


@dataclass
class Trees:
    """The installed forests, evaluated once for both members."""

    setup: Setup
    boosted: Boosted | None = field(default=None)

    def advance(self, scene: Scene) -> tuple[Raw, Raw]:
        """Raw forecasts of the residual and of the direct member; NaN before the first training."""
        shape = (len(scene.window.new), len(self.setup.horizons), len(self.setup.quantiles))
        if self.boosted is None:
            nothing = Raw(np.full(shape[:2], np.nan), np.full(shape, np.nan))
            return nothing, nothing
        data = frame(scene.window, self.setup, self.boosted.typical)
        raw = np.stack([forest.predict(data.rows) for forest in self.boosted.forests], axis=1)
        residual, direct = np.moveaxis(raw.reshape(shape[0], 2, *shape[1:]), 1, 0)
        spread = data.level[:, :, None] + residual * data.unit[:, :, None]
        scaled = np.expm1(direct) * data.floor[:, :, None]
        return Raw(data.level, spread), Raw(data.level, scaled)
