"""Percentile of a decaying histogram, as the recommender of the vertical pod autoscaler.

Buckets grow by 5 %, a sample's weight halves in 24 h, the percentile is the upper end of its bucket, and 15 % are added
(kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender: DefaultHistogramBucketSizeGrowth,
DefaultCPUHistogramDecayHalfLife, safety margin 0.15). A sample is the demand of the last H minutes, one a minute; the
recommender asks for the 90th percentile, here for every level.
"""

from collections.abc import Sequence

import numpy as np
from scipy.signal import lfilter

from evalfleet_scaling.forecast.baselines.rule import LevelRule
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, trailing_sum
from evalfleet_scaling.forecast.streams import decay_of_half_life

GROWTH = 1.05
FIRST_BUCKET = 1.0
LARGEST = 1e9
MARGIN = 1.15
LEAST_WEIGHT = 1e-12


def bucket_ends() -> FloatArray:
    """Upper ends of all buckets: the first of one GPU-second, each next 5 % wider."""
    count = int(np.ceil(np.log(LARGEST * (GROWTH - 1) / FIRST_BUCKET + 1) / np.log(GROWTH)))
    return np.asarray(FIRST_BUCKET * (GROWTH ** np.arange(1, count + 1) - 1) / (GROWTH - 1), dtype=np.float64)


ENDS = bucket_ends()


def levels(series: Series, horizon: int, quantiles: Sequence[float]) -> FloatArray:
    """Percentiles after every minute, shape (minutes, levels); NaN before the first sample."""
    samples = trailing_sum(series.values, horizon)
    bucket = np.minimum(np.searchsorted(ENDS, np.nan_to_num(samples), side="right"), len(ENDS) - 1)
    decay = decay_of_half_life(MINUTES_PER_DAY)
    weights = np.zeros(len(ENDS))
    out = np.full((len(series), len(quantiles)), np.nan)
    for start in range(0, len(series), MINUTES_PER_DAY):
        stop = min(start + MINUTES_PER_DAY, len(series))
        added = np.zeros((stop - start, len(ENDS)))
        known = np.flatnonzero(~np.isnan(samples[start:stop]))
        added[known, bucket[start:stop][known]] = 1.0
        held, _ = lfilter([1.0], [1.0, -decay], added, axis=0, zi=decay * weights[None])
        weights = held[-1]
        total = np.cumsum(held, axis=1)
        for row, level in enumerate(quantiles):
            reached = np.argmax(total >= level * total[:, -1:], axis=1)
            out[start:stop, row] = np.where(total[:, -1] > LEAST_WEIGHT, ENDS[reached], np.nan)
    return out


HISTOGRAM = LevelRule("vpa-histogram", levels, MARGIN)
