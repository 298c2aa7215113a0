"""Same-hour mean: the mean of this time of day, half an hour more at each side, on the days before."""

import numpy as np

from evalfleet_lab.baselines.rule import Rule
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.memory import same_time_mean
from evalfleet_scaling.forecast.window import Window

DAYS = (7, 1, 3, 14)


def points(series: Series, horizon: int) -> FloatArray:
    """The last 7, 1, 3 and 14 days, shape (minutes, 4); NaN on the first day."""
    window = Window(series.values, 0, series.start_minute)
    return np.stack([same_time_mean(window, horizon, days) * horizon for days in DAYS], axis=1)


SAME_HOUR = Rule("same-hour-mean", points)
