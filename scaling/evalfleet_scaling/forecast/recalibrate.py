"""Calibration of the mix itself, only where its coverage has left the level.

A mix of calibrated quantiles over-covers a little and is best left alone. Where its coverage over the last week (fading
mean of the same mean age, 3.5 d) falls short by more than two points (or half of what is left to 1), or exceeds the
level by four, it is calibrated like a member of its own; never before a full window of scores is known.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.calibrate import SCORES, Calibration, score_unit
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.models import Scene, Setup
from evalfleet_scaling.forecast.streams import Delay, DiscountedMean

MEAN_AGE = 3.5 * MINUTES_PER_DAY
SHORT = 0.02
ABUNDANT = 0.04
"""Correcting two points of abundance costs the worst day more than it saves (Philly, 15 min, 0.9: 0.84 to 0.77)."""


@dataclass
class Recalibration:
    """Watches the coverage of the mix and corrects it where needed."""

    setup: Setup
    calibration: Calibration = field(init=False)
    coverage: list[DiscountedMean] = field(init=False)
    pending: list[Delay] = field(init=False)
    scored: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        levels = len(self.setup.quantiles)
        self.calibration = Calibration(self.setup, 1)
        self.coverage = [DiscountedMean(np.full(levels, 1.0 - 1.0 / MEAN_AGE)) for _ in self.setup.horizons]
        self.pending = [Delay(horizon, (levels,)) for horizon in self.setup.horizons]
        self.scored = np.zeros((len(self.setup.horizons), levels), dtype=np.int64)

    def advance(self, mixed: FloatArray, scene: Scene) -> FloatArray:
        """The mix, corrected where its coverage is off; shape (new, horizons, quantiles) in and out."""
        unit = score_unit(mixed[:, :, 0], scene.floor)
        calibrated = self.calibration.advance(mixed[:, None], unit[:, None], scene.arrived)[:, 0]
        off = np.stack([self._is_off(column, mixed[:, column], scene) for column in range(mixed.shape[1])], axis=1)
        corrected = np.where(off & ~np.isnan(calibrated), calibrated, mixed)
        return np.maximum.accumulate(np.maximum(corrected, 0.0), axis=2)

    def _is_off(self, column: int, mixed: FloatArray, scene: Scene) -> np.ndarray:
        levels = np.asarray(self.setup.quantiles)
        matured = self.pending[column].advance(mixed)
        arrived = scene.arrived[:, column, None]
        unknown = np.isnan(matured) | np.isnan(arrived)
        hits = np.where(unknown, np.nan, (arrived <= matured).astype(np.float64))
        # Empty windows sit on the quantile 0 and count as covered at every level: nothing to correct there.
        empty = (arrived == 0) & (matured <= 0)
        coverage = self.coverage[column].advance(np.where(empty, np.nan, hits))
        scored = self.scored[column] + np.cumsum(~unknown, axis=0)
        self.scored[column] = scored[-1]
        with np.errstate(invalid="ignore"):
            below = coverage < levels - np.minimum(SHORT, (1.0 - levels) / 2)
            return np.asarray((scored >= SCORES) & (below | (coverage > levels + ABUNDANT)))
