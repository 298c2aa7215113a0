"""What a baseline is: a rule of another system that says, at every minute, how much will arrive in the next H.

A rule is replayed over a whole series at once; `Baseline` makes a member of it. In each of the systems the interval of
observation is the interval of action; here both are the lead time H: a rule sees sums of H minutes and forecasts the
next one. Since a forecast is wanted at every minute, H copies run side by side, each seeing every H-th minute (phases).

Two forms of each rule compete:

- as published: the constants of the system's defaults or its own example, no margin; its point forecast answers for
  every level.
- tuned: the constants with the least absolute error and then, for each level, the safety factor with the least
  pinball loss, both chosen online from what was known at the minute, as the ensemble's own parts are.

Gaps are gaps: where a system would count a zero, the rule here keeps what it knew. That is kinder than the original.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, trailing_sum
from evalfleet_scaling.forecast.mix import pinball
from evalfleet_scaling.forecast.smoothing import GridChoice
from evalfleet_scaling.forecast.streams import DiscountedMean, decay_of_half_life

SAFETY_FACTORS = (0.0, 0.25, 0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.6, 2.0, 3.0, 5.0, 8.0, 13.0)
"""What a tuned rule's forecast is multiplied by; 1 / target utilisation of an HPA is such a factor."""
SAFETY_HALF_LIFE = 0.5 * MINUTES_PER_DAY
"""Of 0.5, 1, 3.5, 7 and 14 d the best for the baselines."""

Points = Callable[[Series, int], FloatArray]
"""Point forecasts of D[t, H] of every setting, shape (minutes, settings); NaN where the rule cannot tell yet."""
Levels = Callable[[Series, int, Sequence[float]], FloatArray]
"""Forecasts of D[t, H] at every level, shape (minutes, levels)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with several settings of its constants that gives a point forecast.

    Attributes:
        name: of the published form in reports.
        points: the rule itself.
        published: index of the setting that the system ships with; None: it ships none, the best so far is taken.
    """

    name: str
    points: Points
    published: int | None = 0

    def raw(self, series: Series, horizon: int, quantiles: Sequence[float], tuned: bool) -> FloatArray:
        """Forecasts without a safety factor, shape (minutes, levels)."""
        points = np.maximum(self.points(series, horizon), 0.0)
        index = None if tuned else self.published
        chosen = best_setting(points, series, horizon) if index is None else points[:, index]
        return np.repeat(chosen[:, None], len(quantiles), axis=1)


@dataclass(frozen=True, slots=True)
class LevelRule:
    """A rule that gives quantiles of its own, with the margin its system puts on top."""

    name: str
    levels: Levels
    margin: float = 1.0

    def raw(self, series: Series, horizon: int, quantiles: Sequence[float], tuned: bool) -> FloatArray:
        """Forecasts, shape (minutes, levels); the published margin is among the factors a tuned rule may choose."""
        return self.levels(series, horizon, quantiles) * (1.0 if tuned else self.margin)


@dataclass
class Baseline:
    """A rule as a member. Made for replays: asked minute by minute it computes everything anew."""

    rule: Rule | LevelRule
    start_minute: int
    tuned: bool = False
    values: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The rule, `-tuned` where it is."""
        return self.rule.name + ("-tuned" if self.tuned else "")

    def learn_one(self, value: float) -> None:
        """Take the demand of the next minute; NaN is a gap."""
        self.values.append(value)

    def forecast(self, horizon_minutes: int, quantiles: Sequence[float]) -> FloatArray:
        """Forecasts of the demand of the next `horizon_minutes`, shape (quantiles,)."""
        series = Series(np.asarray(self.values, dtype=np.float64), self.start_minute)
        return np.asarray(self.replay(series, (horizon_minutes,), quantiles)[-1, 0])

    def replay(self, series: Series, horizons: Sequence[int], quantiles: Sequence[float]) -> FloatArray:
        """Forecasts at every origin, shape (minutes, horizons, quantiles)."""
        columns = [self._column(series, horizon, quantiles) for horizon in horizons]
        return np.stack(columns, axis=1)

    def _column(self, series: Series, horizon: int, quantiles: Sequence[float]) -> FloatArray:
        raw = self.rule.raw(series, horizon, quantiles, self.tuned)
        if self.tuned:
            raw = np.stack(
                [with_safety(raw[:, row], series, horizon, level) for row, level in enumerate(quantiles)], axis=1
            )
        return np.maximum.accumulate(raw, axis=1)


def best_setting(points: FloatArray, series: Series, horizon: int) -> FloatArray:
    """Forecast of the setting with the least absolute error (half-life 1 d) at every minute, shape (minutes,)."""
    if points.shape[1] == 1:
        return points[:, 0]
    arrived = trailing_sum(series.values, horizon)
    return GridChoice((horizon,), points.shape[1]).choose(points[:, None, :], arrived[:, None])[:, 0]


def with_safety(point: FloatArray, series: Series, horizon: int, level: float) -> FloatArray:
    """Forecast times the factor with the least pinball loss so far, shape (minutes,); 1 before anything was scored."""
    candidates = point[:, None] * np.asarray(SAFETY_FACTORS)
    matured = np.full_like(candidates, np.nan)
    matured[horizon:] = candidates[: len(candidates) - horizon]
    loss = pinball(trailing_sum(series.values, horizon)[:, None], matured, level)
    decay = np.full(len(SAFETY_FACTORS), decay_of_half_life(SAFETY_HALF_LIFE))
    mean = DiscountedMean(decay).advance(loss)
    unknown = np.isnan(mean).any(axis=1)
    best = np.where(unknown, SAFETY_FACTORS.index(1.0), np.argmin(np.nan_to_num(mean, nan=np.inf), axis=1))
    return np.asarray(np.take_along_axis(candidates, best[:, None], axis=1)[:, 0])


def phases(series: Series, horizon: int) -> FloatArray:
    """Sums of the last H minutes as H interleaved series of their own, shape (steps, H); NaN over gaps and at the end.

    Row k, column p belongs to the end of minute H - 1 + k H + p.
    """
    sums = trailing_sum(series.values, horizon)[horizon - 1 :]
    steps = -(-len(sums) // horizon)
    return np.concatenate([sums, np.full(steps * horizon - len(sums), np.nan)]).reshape(steps, horizon)


def by_minute(forecasts: FloatArray, minutes: int, horizon: int) -> FloatArray:
    """Back from phases: shape (steps, H, settings) to (minutes, settings), NaN before the first window is full."""
    settings = forecasts.shape[2]
    flat = forecasts.reshape(-1, settings)[: max(0, minutes - horizon + 1)]
    head = np.full((min(minutes, horizon - 1), settings), np.nan)
    return np.concatenate([head, flat])
