"""Static capacity: so many times the mean demand of the first day, for ever; on that day, of the minutes so far."""

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.policy import WORKER_SECONDS, Candidate, Observation, Scenarios

RATIO = 1.52
SHARES = tuple(0.8 * RATIO**step for step in range(8))
STEPS = tuple(RATIO ** (step / 5) for step in range(5))
"""Static capacity drains nothing on purpose; the second parameter steps between two shares: 40 sizes from 0.8 to 21."""


class Fixed:
    """No memory but the means."""

    def __init__(self, scenarios: Scenarios) -> None:
        self.scenarios = scenarios
        self.rate = np.stack([mean_rate(series) for series in scenarios.series], axis=1)

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        share = self.scenarios.tuning.safety * self.scenarios.tuning.drain_minutes
        return np.asarray(share * self.scenarios.per_scenario(self.rate[observed.minute]) / WORKER_SECONDS)


def mean_rate(series: Series) -> FloatArray:
    """GPU-seconds per observed minute that static capacity is sized by, shape (minutes,)."""
    known = ~np.isnan(series.values)
    mean = np.cumsum(np.where(known, series.values, 0.0)) / np.maximum(np.cumsum(known), 1)
    minute = np.arange(len(mean))
    return np.asarray(mean[np.minimum(minute, MINUTES_PER_DAY - 1)])


FIXED = Candidate("static", Fixed, SHARES, STEPS)
