"""What the tree models see of the past: rates on a log scale, shape of the last hours, the calendar, simple forecasts.

Each row is a function of the eight days before it alone, so that a model trained in another process sees the same.
"""

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, MINUTES_PER_HOUR, FloatArray
from evalfleet_scaling.forecast.memory import same_time_mean
from evalfleet_scaling.forecast.streams import DiscountedMean, decay_of_half_life
from evalfleet_scaling.forecast.window import Window, trailing_max_new, trailing_mean_new

SUM_WIDTHS = (1, 3, 5, 10, 15, 30, 60, 120, 240)
HALF_LIVES = (13.5, 45.0, 180.0)
LAG_DAYS = (1, 2, 7)
PAST_MINUTES = 8 * MINUTES_PER_DAY
FEATURES = 28
"""Columns of a row; saved trees may refer to no other."""
UNKNOWN = -1.0
"""Stands for a missing feature: no column is ever all-NaN, which crashes scikit-learn 1.9.1."""
WEEK = 7 * MINUTES_PER_DAY
THURSDAY = 3
"""Day of the week of the Unix epoch, Monday = 0."""


def features(window: Window) -> tuple[FloatArray, FloatArray]:
    """Feature rows of the new minutes.

    Returns:
        Rows of shape (new, features), float32, without NaN; and the level per minute (EWMA of half-life 13.5 min,
        SES with alpha 0.05) that residual models start from, shape (new,).
    """
    window = window.tail(PAST_MINUTES)
    means = {width: trailing_mean_new(window, width) for width in (*SUM_WIDTHS, MINUTES_PER_DAY)}
    fading = _fading_means(window)
    lagged = [trailing_mean_new(window, 30, day * MINUTES_PER_DAY - 15) for day in LAG_DAYS]
    rates = [*means.values(), *fading.T, *lagged, same_time_mean(window, 15, 7), *_shape_of_last_hours(window)]
    columns = (
        [np.log1p(rate) for rate in rates] + _zero_shares(window) + [_since_last_arrival(window), *_calendar(window)]
    )
    rows = np.stack(columns, axis=1)
    return np.nan_to_num(rows, nan=UNKNOWN).astype(np.float32).astype(np.float64), np.nan_to_num(fading[:, 0])


def _fading_means(window: Window) -> FloatArray:
    part = window.tail(int(40 * max(HALF_LIVES)))
    filters = DiscountedMean(np.array([decay_of_half_life(half_life) for half_life in HALF_LIVES]))
    return filters.advance(np.repeat(part.values[:, None], len(HALF_LIVES), axis=1))[part.first :]


def _shape_of_last_hours(window: Window) -> list[FloatArray]:
    part = window.tail(241)
    # Not the variance: differences of sums of squares would depend, in the last digits, on where the sum began.
    changes = Window(np.abs(np.diff(part.values, prepend=np.nan)), part.first, part.minute)
    return [
        trailing_max_new(part.values, part.first, 60),
        trailing_max_new(part.values, part.first, 240),
        trailing_mean_new(changes, 60),
    ]


def _zero_shares(window: Window) -> list[FloatArray]:
    part = window.tail(240)
    zero = np.where(np.isnan(part.values), np.nan, (part.values == 0.0).astype(np.float64))
    shares = Window(zero, part.first, part.minute)
    return [trailing_mean_new(shares, width) for width in (15, 60, 240)]


def _since_last_arrival(window: Window) -> FloatArray:
    arrived = np.nan_to_num(window.values) > 0
    index = np.arange(len(arrived))
    latest = np.maximum.accumulate(np.where(arrived, index, -1))
    since = np.where(latest >= 0, index - latest, PAST_MINUTES)
    return np.log1p(np.minimum(since[window.first :], 240)).astype(np.float64)


def _calendar(window: Window) -> list[FloatArray]:
    minutes = window.new_minutes()
    angle = 2 * np.pi * (minutes % MINUTES_PER_DAY) / MINUTES_PER_DAY
    weekday = (minutes // MINUTES_PER_DAY + THURSDAY) % 7
    return [np.sin(angle), np.cos(angle), weekday.astype(np.float64), (minutes % MINUTES_PER_HOUR).astype(np.float64)]
