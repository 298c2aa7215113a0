"""Models that only remember: the last window, the same hour of past days, a percentile of the last day."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, trailing_sum
from evalfleet_scaling.forecast.models import Raw, Scene, Setup, point
from evalfleet_scaling.forecast.window import Window, trailing_mean_new, trailing_quantile_new

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
    """Stage 2: quantiles of the windows of the last 24 h (the rule behind the vertical pod autoscaler)."""

    setup: Setup
    name: str = "day-percentile"

    def advance(self, scene: Scene) -> Raw:
        """Rolling empirical quantiles; the center is the mean of the day."""
        part = scene.window.tail(MINUTES_PER_DAY + max(self.setup.horizons))
        rows = len(part.new)
        out = np.empty((rows, len(self.setup.horizons), len(self.setup.quantiles)))
        center = np.empty((rows, len(self.setup.horizons)))
        for column, horizon in enumerate(self.setup.horizons):
            sums = trailing_sum(part.values, horizon)
            center[:, column] = trailing_mean_new(scene.window, MINUTES_PER_DAY) * horizon
            for row, level in enumerate(self.setup.quantiles):
                out[:, column, row] = trailing_quantile_new(sums, part.first, MINUTES_PER_DAY, level)
        return Raw(center, out)
