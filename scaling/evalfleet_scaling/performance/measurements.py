"""Measured values beside what arithmetic expects, and what is usual for each quantity before anything was measured."""

from dataclasses import dataclass
from math import log

import numpy as np

from evalfleet_scaling.arrays import FloatArray
from evalfleet_scaling.performance.interface import Z90, Quantity


@dataclass(frozen=True, slots=True)
class Usual:
    """What is believed of a quantity before anything was measured.

    Attributes:
        spread: standard deviation of log(measured) between runs of one key.
        prior: standard deviation of log(measured / arithmetic) where nothing is known.
        fixed: candidates for what every run of a place costs besides, in seconds or bytes, the likeliest first.
    """

    spread: float
    prior: float
    fixed: tuple[float, ...]


SCORING = Usual(0.06, log(2) / Z90, (0.0, 0.05, 0.15, 0.4, 1.0, 2.5, 6.0, 15.0))
MEMORY = Usual(0.03, log(2) / Z90, (0.0, -0.5e9, -0.25e9, 0.25e9, 0.5e9, 1e9, 2e9))
STARTUP = Usual(0.15, log(3) / Z90, (0.0, -4.0, -2.0, 2.0, 5.0, 10.0, 20.0, 40.0))
"""A start-up depends on disks: a factor of 3."""


def usual(quantity: Quantity) -> Usual:
    """The prior of a quantity."""
    match quantity:
        case Quantity.SCORING_SECONDS:
            return SCORING
        case Quantity.MEMORY_BYTES:
            return MEMORY
        case Quantity.STARTUP_SECONDS:
            return STARTUP


@dataclass(frozen=True, slots=True)
class Measurements:
    """Values by key and run, shape (keys, runs), oldest first, NaN behind shorter histories."""

    measured: FloatArray
    arithmetic: FloatArray
    finished_seconds: FloatArray

    def ratios(self, fixed: FloatArray) -> FloatArray:
        """log(measured / (arithmetic + fixed)) with a fixed part per key."""
        result: FloatArray = np.log(self.measured / (self.arithmetic + fixed[:, None]))
        return result

    def sizes(self, fixed: FloatArray) -> FloatArray:
        """log(arithmetic + fixed) with a fixed part per key."""
        result: FloatArray = np.log(self.arithmetic + fixed[:, None])
        return result
