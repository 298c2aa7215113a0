"""Static: an amount fixed once, from the quantiles of the first week; what a cluster of fixed size is sized by."""

from collections.abc import Sequence

import numpy as np

from evalfleet_lab.baselines.rule import LevelRule
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, trailing_sum

WEEK = 7 * MINUTES_PER_DAY


def levels(series: Series, horizon: int, quantiles: Sequence[float]) -> FloatArray:
    """Quantiles of all windows so far, looked at once a day in the first week and never again; (minutes, levels)."""
    sums = trailing_sum(series.values, horizon)
    out = np.full((len(series), len(quantiles)), np.nan)
    for start in range(horizon, len(series), MINUTES_PER_DAY):
        known = sums[: min(start, WEEK)]
        known = known[~np.isnan(known)]
        if len(known):
            out[start : start + MINUTES_PER_DAY] = np.quantile(known, quantiles)
    return out


STATIC = LevelRule("static", levels)
