"""Models that only remember: the last window, the same hour of past days, percentiles of fading days."""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.histogram import FadingHistogram
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.models import Raw, Scene, Setup, point
from evalfleet_scaling.forecast.streams import decay_of_half_life
from evalfleet_scaling.forecast.window import Window, trailing_mean_new

AROUND_MINUTES = 30
DAYS = 7


@dataclass
class LastWindow:
    """Stage 2: what arrived in the last H minutes arrives again (the rule behind HPA and KEDA)."""

    setup: Setup
    name: str = "last-window"

    def advance(self, scene: Scene) -> Raw:
        """Mean of the observed minutes times H, so that a gap shortens the window instead of emptying it."""
        columns = [trailing_mean_new(scene.window, horizon) * horizon for horizon in self.setup.horizons]
        return point(np.stack(columns, axis=1), self.setup)


@dataclass
class SameHour:
    """Stage 2: mean of the same time of day, half an hour more at each side, on the seven days before."""

    setup: Setup
    name: str = "same-hour"

    def advance(self, scene: Scene) -> Raw:
        """Average over the days that were observed."""
        columns = [same_time_mean(scene.window, horizon, DAYS) * horizon for horizon in self.setup.horizons]
        return point(np.stack(columns, axis=1), self.setup)


def same_time_mean(window: Window, horizon: int, days: int) -> FloatArray:
    """Mean demand per minute around the coming `horizon` minutes on each of the last `days` days, shape (new,)."""
    width = horizon + 2 * AROUND_MINUTES
    lags = [day * MINUTES_PER_DAY - horizon - AROUND_MINUTES for day in range(1, days + 1)]
    each = np.stack([trailing_mean_new(window, width, lag) for lag in lags])
    seen = (~np.isnan(each)).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(seen > 0, np.nansum(each, axis=0) / seen, np.nan)


@dataclass
class DayPercentile:
    """Stage 1: percentiles of all windows so far, their weight halved every day (as the vertical pod autoscaler).

    Not calibrated: its percentiles are empirical already, and a day of scores says less about 0.99 than its memory.
    """

    setup: Setup
    name: str = "day-percentile"
    half_life_days: float = 1.0
    windows: list[FadingHistogram] = field(init=False)

    def __post_init__(self) -> None:
        decay = decay_of_half_life(self.half_life_days * MINUTES_PER_DAY)
        self.windows = [FadingHistogram(decay) for _ in self.setup.horizons]

    def advance(self, scene: Scene) -> Raw:
        """Percentiles after each minute; the center is the mean of the day."""
        horizons = np.asarray(self.setup.horizons, dtype=np.float64)
        day = trailing_mean_new(scene.window, MINUTES_PER_DAY)
        columns = [
            histogram.advance(scene.arrived[:, column], self.setup.quantiles)
            for column, histogram in enumerate(self.windows)
        ]
        return Raw(day[:, None] * horizons, np.stack(columns, axis=1))


@dataclass
class WeekPercentile(DayPercentile):
    """Stage 2: the same with a half-life of four days, for demand too rare for a day to show its upper tail."""

    name: str = "week-percentile"
    half_life_days: float = 4.0
