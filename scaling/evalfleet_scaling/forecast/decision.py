"""From a demand quantile to a number of workers: the rules, as pure arithmetic on arrays with one entry per scenario.

Symbols: B backlog (GPU-seconds), y arrivals (GPU-seconds per minute), L lead time and tau tolerated wait (minutes), d
drain target (minutes), r running workers, D_L demand of the next L minutes, Q_a its quantile, C what running and
starting workers can serve within L.

    reactive     B / (60 d) + y / 60
    proactive    Q_.5 / (60 L) + max(0, B + Q_a - C - tau Q_.5 / L) / (60 d), at least max(B / (60 tau), .9 y / 60)

Reactive where L <= tau: whatever arrives can wait for the workers that it causes to be started. There a forecast may
only keep workers. Proactive where L > tau: workers must be ordered before the work comes. The first term keeps up with
the median; the second is what would still wait when an order of now is ready, beyond what those workers clear within
tau. The last is the floor of reaction, so that a forecast alone never removes capacity that is needed now: the tenth
below what arrives is the noise of half an hour's arrivals (and the tolerance of the horizontal pod autoscaler).
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.checks import require_number
from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.policy import WORKER_SECONDS

LEAST_LEVEL = 0.5
LARGEST_LEVEL = 0.99
RATE_TOLERANCE = 0.1
"""By how much a forecast may go below what arrives: decision 0093."""


class InvalidDecisionError(ScalingInputError):
    """A cost, target, level or time of the decision is negative or not a number."""


def newsvendor_level(under_cost: float, over_cost: float) -> float:
    """Level a* = c_u / (c_u + c_o) at which the last worker costs as much too many as too few; within 0.5 to 0.99.

    Arrow, Harris and Marschak (1951), Optimal inventory policy. Without any cost: 0.5.
    """
    require_number(InvalidDecisionError, "cost of a GPU-second too few", under_cost)
    require_number(InvalidDecisionError, "cost of a GPU-second too many", over_cost)
    total = under_cost + over_cost
    return _clamped(under_cost / total if total > 0 else LEAST_LEVEL)


def level_of_target(late_work_target_percent: float) -> float:
    """Level that leaves at most the target's share of windows short: 1 - target/100, within 0.5 to 0.99.

    Where to start; how much of the work such a window makes late only a replay tells (`self_replay`).
    """
    require_number(InvalidDecisionError, "late-work target", late_work_target_percent)
    return _clamped(1.0 - late_work_target_percent / 100.0)


def _clamped(level: float) -> float:
    return min(LARGEST_LEVEL, max(LEAST_LEVEL, level))


@dataclass(frozen=True, slots=True)
class Situation:
    """What the rules are applied to; arrays of shape (scenarios,).

    Attributes:
        backlog: GPU-seconds that wait.
        arriving: GPU-seconds per minute of late.
        running: workers that serve.
        starting: workers ordered, not yet serving.
        pending_credit: GPU-seconds the starting ones can serve within the lead time.
        lead_minutes: time from order to service.
        tolerated_minutes: work that waits longer is late.
    """

    backlog: FloatArray
    arriving: FloatArray
    running: FloatArray
    starting: FloatArray
    pending_credit: FloatArray
    lead_minutes: FloatArray
    tolerated_minutes: float

    @property
    def workers(self) -> FloatArray:
        """Running and starting."""
        return np.asarray(self.running + self.starting)

    @property
    def covered(self) -> FloatArray:
        """C: GPU-seconds that running and starting workers can serve within the lead time."""
        return np.asarray(WORKER_SECONDS * self.running * self.lead_minutes + self.pending_credit)


def reactive_workers(backlog: FloatArray, arriving: FloatArray, drain_minutes: FloatArray) -> FloatArray:
    """Workers that drain the backlog within the target and keep up with what arrives; not rounded."""
    return np.asarray(backlog / (WORKER_SECONDS * drain_minutes) + arriving / WORKER_SECONDS)


def proactive_workers(
    now: Situation, median: FloatArray, quantile: FloatArray, drain_minutes: FloatArray
) -> FloatArray:
    """Workers for the lead-time demand, those worth their start-up, at least the floor; not rounded.

    Args:
        now: the situation.
        median: Q_.5 of the lead-time demand, GPU-seconds; NaN where there is no forecast: then reaction alone.
        quantile: Q_a of it.
        drain_minutes: d.
    """
    tolerable = now.tolerated_minutes * median / now.lead_minutes
    short = now.backlog + quantile - now.covered - tolerable
    wanted = median / (WORKER_SECONDS * now.lead_minutes) + np.maximum(short, 0.0) / (WORKER_SECONDS * drain_minutes)
    proactive = np.maximum(worth_starting(wanted, now, median), reaction_floor(now))
    reaction = reactive_workers(now.backlog, now.arriving, drain_minutes)
    return np.asarray(np.where(np.isnan(median) | np.isnan(quantile), reaction, proactive))


def reaction_floor(now: Situation) -> FloatArray:
    """Workers that clear the backlog just in time, or keep up with nine tenths of what arrives, whichever is more."""
    tolerated = max(now.tolerated_minutes, 1.0)
    return np.asarray(np.maximum(now.backlog / tolerated, (1.0 - RATE_TOLERANCE) * now.arriving) / WORKER_SECONDS)


def worth_starting(wanted: FloatArray, now: Situation, median: FloatArray) -> FloatArray:
    """`wanted` without new workers whose expected busy time is below their paid start-up.

    Work expected within two lead times and left over by the workers at hand, E = B + 2 Q_.5 - C - 60 L (r + s), keeps n
    new workers busy for E / (60 n) minutes each; so at most E / (60 L) are started. Never asks for a removal.
    """
    lead = WORKER_SECONDS * now.lead_minutes
    left_over = now.backlog + 2.0 * median - now.covered - lead * now.workers
    return np.asarray(
        np.where(wanted > now.workers, np.minimum(wanted, now.workers + np.maximum(left_over, 0) / lead), wanted)
    )


def veto_removal(wanted: FloatArray, now: Situation, median: FloatArray) -> FloatArray:
    """`wanted`, but no worker goes that the median of the next lead time keeps busy throughout; adds none."""
    needed = np.floor(np.nan_to_num(median) / (WORKER_SECONDS * now.lead_minutes))
    return np.asarray(np.maximum(wanted, np.minimum(needed, now.workers)))


def warm_capacity(now: Situation, quantile: FloatArray, most: float = np.inf) -> FloatArray:
    """Nodes to keep warm, shape (scenarios,): whole ones that clear within tau what comes beyond the capacity ordered.

    The size of a CapacityBuffer: ceil(max(0, B + Q_a - C) / (60 tau)), at most `most`; 0 where there is no forecast.
    """
    short = np.maximum(np.nan_to_num(now.backlog + quantile - now.covered), 0.0)
    return np.asarray(np.minimum(np.ceil(short / (WORKER_SECONDS * max(now.tolerated_minutes, 1.0))), most))
