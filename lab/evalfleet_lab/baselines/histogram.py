"""Percentile of a decaying histogram, as the recommender of the vertical pod autoscaler.

Buckets grow by 5 %, a sample's weight halves in 24 h, the percentile is the upper end of its bucket, and 15 % are added
(kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender: DefaultHistogramBucketSizeGrowth,
DefaultCPUHistogramDecayHalfLife, safety margin 0.15). A sample is the demand of the last H minutes, one a minute; the
recommender asks for the 90th percentile, here for every level.
"""

from collections.abc import Sequence

from evalfleet_lab.baselines.rule import LevelRule
from evalfleet_scaling.forecast.histogram import FadingHistogram
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, trailing_sum
from evalfleet_scaling.forecast.streams import decay_of_half_life

MARGIN = 1.15


def levels(series: Series, horizon: int, quantiles: Sequence[float]) -> FloatArray:
    """Percentiles after every minute, shape (minutes, levels); NaN before the first sample."""
    histogram = FadingHistogram(decay_of_half_life(MINUTES_PER_DAY))
    return histogram.advance(trailing_sum(series.values, horizon), quantiles)


HISTOGRAM = LevelRule("vpa-histogram", levels, MARGIN)
