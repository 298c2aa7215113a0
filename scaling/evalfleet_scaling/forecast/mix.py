"""Weighted quantile ensemble: every member scored in shadow, those that earn it are heard.

A member's pinball loss per quantile and horizon fades with half-life 1 d and is known H later; its weight is loss^-12.
A newcomer enters after one day of its own out-of-sample scores; a member whose loss exceeds 1.25 x that of calibrated
SES is not heard until it improves. Before one day the first stage alone speaks, with equal weights.

Where most windows are empty, the best quantile may be zero, and a mean of members is never zero as long as one of them
is not. So the mix is zero where the plain percentile of past windows is, and members with 0.4 of the weight agree.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.streams import Delay, DiscountedMean, decay_of_half_life

POWER = 12.0
"""Decision 0094; 6 gave members too much say that cost a tenth more."""
ZERO_VOTE = 0.4
NOTHING = 1.0
"""GPU-seconds that count as zero: the first bucket of the percentile."""
DROP_ABOVE = 1.25
ENTRY_SCORES = MINUTES_PER_DAY
LAST_STAGE = 3


def pinball(target: FloatArray, forecast: FloatArray, level: FloatArray | float) -> FloatArray:
    """Quantile loss max(a e, (a - 1) e) of e = target - forecast; NaN where either is."""
    error = target - forecast
    return np.asarray(np.maximum(level * error, (level - 1.0) * error), dtype=np.float64)


@dataclass
class Mix:
    """Scores and weights of the members.

    Attributes:
        setup: horizons and quantiles.
        stages: for each member, the stage (1 to 3) it belongs to; stage 1 speaks before anything was scored for a day.
        reference: index of the member the others are measured against (calibrated SES).
        empirical: index of the plain percentile of past windows, None without one.
    """

    setup: Setup
    stages: tuple[int, ...]
    reference: int
    empirical: int | None = None
    losses: list[DiscountedMean] = field(init=False)
    pending: list[Delay] = field(init=False)
    scored: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        members, levels = len(self.stages), len(self.setup.quantiles)
        decay = np.full(members * levels, decay_of_half_life(MINUTES_PER_DAY))
        self.losses = [DiscountedMean(decay.copy()) for _ in self.setup.horizons]
        self.pending = [Delay(horizon, (members, levels)) for horizon in self.setup.horizons]
        self.scored = np.zeros((len(self.setup.horizons), members, levels), dtype=np.int64)

    def advance(self, forecasts: FloatArray, arrived: FloatArray, early: np.ndarray) -> tuple[FloatArray, FloatArray]:
        """Score what matured and mix.

        Args:
            forecasts: calibrated, shape (new, members, horizons, quantiles).
            arrived: targets that matured, shape (new, horizons).
            early: shape (new,), minutes after a drift alarm: stages 1 and 2 alone speak, with equal weights.

        Returns:
            Mixed quantiles, shape (new, horizons, quantiles), NaN where no member can tell; and the weights, shape
            (new, members, horizons, quantiles).
        """
        weights = np.stack(
            [
                self._weights(column, forecasts[:, :, column], arrived[:, column], early)
                for column in range(len(self.pending))
            ],
            axis=2,
        )
        total = weights.sum(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            mixed = np.where(total > 0, (weights * np.nan_to_num(forecasts)).sum(axis=1) / total, np.nan)
        mixed = np.where(self._voted_zero(forecasts, weights), 0.0, mixed)
        return np.maximum.accumulate(mixed, axis=2), weights

    def _voted_zero(self, forecasts: FloatArray, weights: FloatArray) -> np.ndarray:
        if self.empirical is None:
            return np.zeros(1, dtype=bool)
        nothing = forecasts <= NOTHING
        asked = nothing[:, self.empirical] & (weights[:, self.empirical] > 0)
        return np.asarray(asked & ((weights * nothing).sum(axis=1) > ZERO_VOTE * weights.sum(axis=1)))

    def _weights(self, column: int, forecasts: FloatArray, arrived: FloatArray, early: np.ndarray) -> FloatArray:
        rows, members, levels = forecasts.shape
        matured = self.pending[column].advance(forecasts)
        loss = pinball(arrived[:, None, None], matured, np.asarray(self.setup.quantiles))
        known = ~np.isnan(loss)
        scored = self.scored[column] + np.cumsum(known, axis=0)
        self.scored[column] = scored[-1]
        mean = self.losses[column].advance(loss.reshape(rows, -1)).reshape(rows, members, levels)
        stage = np.asarray(self.stages)[None, :, None]
        reference = mean[:, self.reference : self.reference + 1]
        trained = scored >= ENTRY_SCORES
        # Before the reference has its day of scores, the first stage alone speaks.
        grown = trained[:, self.reference : self.reference + 1]
        alarmed = early[:, None, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            good = mean <= DROP_ABOVE * reference
            strength = np.where(reference > 0, np.maximum(mean / reference, 1e-3) ** -POWER, 1.0)
        heard = np.where(grown, trained & good & ~(alarmed & (stage == LAST_STAGE)), stage == 1) & ~np.isnan(forecasts)
        return np.where(heard, np.where(grown & ~alarmed, strength, 1.0), 0.0)
