"""One-sided rolling split conformal calibration, per model, horizon and quantile.

Score s = (D - q) / sqrt((max(f, 0) + 0.1 m) m) with m = max(24 h mean x H, one typical job). The last 1,440 scores that
matured (delayed by H) give the offset at rank a(k+1), interpolated; the calibrated quantile is q + offset x unit.
Above 0.975 every third score is kept, three days of them: in one day 15-minute windows hold a single one above 0.99.
(Vovk et al. 2005; Romano, Patterson and Candes 2019 for quantile regressors.) The floor of one job keeps the unit
from vanishing in silent hours, where a single arrival would otherwise be an infinite score.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.streams import Delay
from evalfleet_scaling.forecast.window import rolling_rank

SCORES = MINUTES_PER_DAY
FLOOR_SHARE = 0.1
TAIL = 0.975
TAIL_STRIDE = 3


def score_unit(center: FloatArray, floor: FloatArray) -> FloatArray:
    """Standard deviation, up to a factor, of demand with mean `center`: sqrt((f + 0.1 m) m)."""
    return np.asarray(np.sqrt((np.maximum(center, 0.0) + FLOOR_SHARE * floor) * floor), dtype=np.float64)


@dataclass
class Calibration:
    """Rolling conformal offsets of several models at once."""

    setup: Setup
    models: int
    scores: np.ndarray = field(init=False)
    counts: np.ndarray = field(init=False)
    minute: np.ndarray = field(init=False)
    pending: list[Delay] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.models, len(self.setup.horizons), len(self.setup.quantiles))
        self.scores = np.zeros((*shape, SCORES), dtype=np.float32)
        self.counts = np.zeros(shape, dtype=np.int64)
        self.minute = np.zeros(1, dtype=np.int64)
        # Raw quantiles and, in the last column, their unit.
        self.pending = [Delay(horizon, (self.models, shape[2] + 1)) for horizon in self.setup.horizons]

    def advance(self, raw: FloatArray, unit: FloatArray, arrived: FloatArray) -> FloatArray:
        """Learn from what matured and calibrate.

        Args:
            raw: shape (new, models, horizons, quantiles).
            unit: `score_unit`, shape (new, models, horizons).
            arrived: targets that matured, shape (new, horizons).

        Returns:
            Calibrated quantiles, shape of `raw`; NaN while fewer than two scores are known.
        """
        out = np.empty_like(raw)
        third = (self.minute[0] + np.arange(len(raw))) % TAIL_STRIDE == 0
        self.minute[0] += len(raw)
        for column, pending in enumerate(self.pending):
            matured = pending.advance(np.concatenate([raw[:, :, column], unit[:, :, column, None]], axis=2))
            scores = (arrived[:, column, None, None] - matured[..., :-1]) / matured[..., -1:]
            for model in range(self.models):
                for row, level in enumerate(self.setup.quantiles):
                    kept = scores[:, model, row] if level < TAIL else np.where(third, scores[:, model, row], np.nan)
                    offset = self._offsets((model, column, row), kept, level)
                    out[:, model, column, row] = raw[:, model, column, row] + offset * unit[:, model, column]
        return out

    def _offsets(self, key: tuple[int, int, int], scores: FloatArray, level: float) -> FloatArray:
        """Offsets after each new score (NaN: nothing matured), and remember the scores."""
        known = ~np.isnan(scores)
        held = int(self.counts[key])
        fresh = scores[known].astype(np.float32)
        entries = np.concatenate([self.scores[key][SCORES - held :], fresh])
        ends, same = np.unique(held + np.cumsum(known), return_inverse=True)
        offsets = rolling_rank(entries, ends, SCORES, level)[same]
        if len(fresh):
            kept = min(len(entries), SCORES)
            self.scores[key][SCORES - kept :] = entries[len(entries) - kept :]
            self.counts[key] = kept
        return offsets
