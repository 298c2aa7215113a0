"""Histogram whose samples fade: percentiles of all that was ever seen, the latest day weighing most.

Buckets grow by 5 % from one GPU-second on, a percentile is the upper end of its bucket. The histogram of the vertical
pod autoscaler (kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender/util: exponential buckets, decaying
weights), with one weight per bucket as its only memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import lfilter

from evalfleet_scaling.forecast.interface import LARGEST_DEMAND, FloatArray

GROWTH = 1.05
FIRST_BUCKET = 1.0
FORGOTTEN = 1e-12
"""Below this weight nothing is left to tell from."""
MOST_ROWS = 1_440
"""Rows worked on at once: a day of weights is 5 MB."""


def bucket_ends() -> FloatArray:
    """Upper ends of all buckets: the first of one GPU-second, each next 5 % wider, shape (buckets,)."""
    count = int(np.ceil(np.log(LARGEST_DEMAND * (GROWTH - 1) / FIRST_BUCKET + 1) / np.log(GROWTH)))
    return np.asarray(FIRST_BUCKET * (GROWTH ** np.arange(1, count + 1) - 1) / (GROWTH - 1), dtype=np.float64)


ENDS = bucket_ends()


@dataclass
class FadingHistogram:
    """Weights of the buckets; each sample's weight is multiplied by `decay` at every row, known or not."""

    decay: float
    weights: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.weights = np.zeros(len(ENDS))

    def advance(self, samples: FloatArray, levels: Sequence[float]) -> FloatArray:
        """Take samples, shape (new,), NaN: none; percentiles after each, shape (new, levels); NaN while empty."""
        parts = [self._some(samples[start : start + MOST_ROWS], levels) for start in range(0, len(samples), MOST_ROWS)]
        return np.concatenate(parts) if parts else np.empty((0, len(levels)))

    def _some(self, samples: FloatArray, levels: Sequence[float]) -> FloatArray:
        bucket = np.minimum(np.searchsorted(ENDS, np.nan_to_num(samples), side="right"), len(ENDS) - 1)
        known = np.flatnonzero(~np.isnan(samples))
        added = np.zeros((len(samples), len(ENDS)))
        added[known, bucket[known]] = 1.0
        held, _ = lfilter([1.0], [1.0, -self.decay], added, axis=0, zi=self.decay * self.weights[None])
        self.weights = held[-1].copy()
        total = np.cumsum(held, axis=1)
        reached = np.stack([np.argmax(total >= level * total[:, -1:], axis=1) for level in levels], axis=1)
        return np.asarray(np.where(total[:, -1:] > FORGOTTEN, ENDS[reached], np.nan), dtype=np.float64)
