"""Stretching intervals by measured miscoverage: how many standard deviations really hold 10 % and 90 % of the runs.

Conformal quantiles of the scores z = (measured - predicted) / s, each predicted from earlier runs only, among 20
equally likely scores of a normal distribution, so that few runs change little (Vovk et al. 2005, with a prior).
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import FloatArray
from evalfleet_scaling.performance.interface import Z90

PRIOR_SCORES = np.array([
    -1.960, -1.440, -1.150, -0.935, -0.755, -0.598, -0.454, -0.319, -0.189, -0.063,
    0.063, 0.189, 0.319, 0.454, 0.598, 0.755, 0.935, 1.150, 1.440, 1.960,
])  # fmt: skip
"""Normal quantiles at (i + 1/2) / 20."""
SMALLEST, LARGEST = 0.25, 5.0


@dataclass(frozen=True, slots=True)
class Stretch:
    """Standard deviations below and above the median, both positive."""

    below: float
    above: float


NORMAL = Stretch(Z90, Z90)


def stretch(scores: FloatArray) -> Stretch:
    """The stretch that would have held 80 % of the scores, 10 % outside on each side."""
    if not len(scores):
        return NORMAL
    everything = np.sort(np.concatenate([scores, PRIOR_SCORES]))
    rank = 0.9 * (len(everything) + 1) - 1
    places = np.arange(len(everything))
    above = float(np.interp(rank, places, everything))
    below = float(np.interp(rank, places, np.sort(-everything)))
    return Stretch(min(max(below, SMALLEST), LARGEST), min(max(above, SMALLEST), LARGEST))
