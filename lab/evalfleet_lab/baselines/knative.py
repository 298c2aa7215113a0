"""The autoscaler of Knative: a long stable window, a short panic window, and no way down while in panic.

    m = B / (60 d) + y / 60   workers' worth of work in the system
    stable = safety x mean of m over 10 min,  panic = safety x m of the last minute (10 % of the stable window)
    panic mode from panic >= 2 x workers at hand until 10 min after; in it: the largest of all recommendations so far

The windows are those of Knative (60 s and 6 s; stable-window, panic-window-percentage 10, panic-threshold-percentage
200) stretched to the minute; 1 / safety is its target utilisation (70 % by default). Its limits of rate (x 1000 up, / 2
down in two seconds) never bind at one decision a minute.
"""

import numpy as np

from evalfleet_scaling.forecast.decision import reactive_workers
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.policy import Candidate, Observation, Scenarios

STABLE_MINUTES = 10
PANIC_THRESHOLD = 2.0


class Knative:
    """Memory: the metric of the stable window, when panic ends, and its largest recommendation."""

    def __init__(self, scenarios: Scenarios) -> None:
        self.scenarios = scenarios
        self.metric = np.full((STABLE_MINUTES, len(scenarios)), np.nan)
        self.panic_until = np.full(len(scenarios), -1)
        self.largest = np.zeros(len(scenarios))

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        tuning = self.scenarios.tuning
        # A minute nobody observed leaves the queue alone as metric.
        arrived = np.nan_to_num(observed.arrived)
        self.metric[observed.minute % STABLE_MINUTES] = reactive_workers(
            observed.backlog, arrived, tuning.drain_minutes
        )
        panic = np.ceil(tuning.safety * self.metric[observed.minute % STABLE_MINUTES] - 1e-9)
        stable = np.ceil(tuning.safety * np.nanmean(self.metric, axis=0) - 1e-9)
        over = panic >= PANIC_THRESHOLD * np.maximum(observed.running + observed.starting, 1.0)
        self.panic_until = np.where(over, observed.minute + STABLE_MINUTES, self.panic_until)
        panicking = observed.minute < self.panic_until
        self.largest = np.where(panicking, np.maximum(self.largest, np.maximum(panic, stable)), 0.0)
        return np.asarray(np.where(panicking, self.largest, stable))


KNATIVE = Candidate("knative", Knative)
