"""The formula of the horizontal pod autoscaler, fed by KEDA with the queue and the arrival rate.

    desired = max over metrics of ceil(metric / target per worker)
    queue:  metric B, target 60 d          arrivals:  metric y, target 60 / safety   (1 / safety = target utilisation)

It keeps the present number where no metric asks for more than 10 % off it, follows the highest recommendation of the
last five minutes on the way down, and at most grows by 16 or to 16 times the workers in a minute (100 % or 4 pods in
each of four periods of 15 s, whichever is more). All are the defaults of autoscaling/v2. KEDA's own step from 0 to 1 is
left out: the formula acts at once.
"""

import numpy as np

from evalfleet_scaling.forecast.decision import reactive_workers
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.policy import WORKER_SECONDS, Candidate, Observation, Scenarios
from evalfleet_scaling.forecast.workers import recent_rate

TOLERANCE = 0.1
STABILIZATION_MINUTES = 5
GROWTH = 16.0
RATE_MINUTES = 15
"""Window of the arrival rate: of 1, 5, 15 and 30 min the best for this rule over lead times and families."""


class Hpa:
    """Memory: the recommendations of the stabilisation window, shape (minutes, scenarios)."""

    def __init__(self, scenarios: Scenarios) -> None:
        self.scenarios = scenarios
        self.rate = recent_rate(scenarios.series, RATE_MINUTES)
        self.recent = np.zeros((STABILIZATION_MINUTES, len(scenarios)))

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        present = observed.running + observed.starting
        self.recent[1:] = self.recent[:-1]
        self.recent[0] = np.minimum(self._desired(observed, present), np.maximum(present * GROWTH, present + GROWTH))
        return np.asarray(np.where(self.recent[0] >= present, self.recent[0], self._held(present)))

    def _held(self, present: FloatArray) -> FloatArray:
        return np.asarray(np.minimum(self.recent.max(axis=0), present))

    def _desired(self, observed: Observation, present: FloatArray) -> FloatArray:
        tuning = self.scenarios.tuning
        nothing = np.zeros_like(observed.backlog)
        by_queue = reactive_workers(observed.backlog, nothing, tuning.drain_minutes)
        by_rate = tuning.safety * self.scenarios.per_scenario(self.rate[observed.minute]) / WORKER_SECONDS
        desired = np.maximum(by_queue, by_rate)
        close = np.abs(desired - present) <= TOLERANCE * present
        return np.asarray(np.where(close, present, np.ceil(desired - 1e-9)))


HPA = Candidate("hpa-keda", Hpa)
