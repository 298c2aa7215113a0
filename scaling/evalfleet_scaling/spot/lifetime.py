"""Predicted life of a spot worker, from lives seen so far (Nelson-Aalen).

The cumulative hazard H(t) = sum over preemptions at t_i <= t of 1 / (workers alive just before t_i); lives that ended
otherwise are censored. The mean life is the area under exp(-H); beyond the last observation the average hazard is
continued. (Nelson 1969, Aalen 1978.)
"""

from collections.abc import Sequence

import numpy as np

from evalfleet_scaling.capacity.view import FloatArray
from evalfleet_scaling.spot.history import Life

_FEWEST_PREEMPTIONS = 3  # below, nothing is predicted


def cumulative_hazard(lives: Sequence[Life]) -> tuple[FloatArray, FloatArray]:
    """Times of preemptions (ascending) and H just after each."""
    seconds = np.array([life.seconds for life in lives])
    preempted = np.array([life.preempted for life in lives], dtype=np.bool_)
    times = np.unique(seconds[preempted]) if len(lives) else np.zeros(0)
    at_risk = np.array([(seconds >= t).sum() for t in times], dtype=np.float64)
    events = np.array([(seconds[preempted] == t).sum() for t in times], dtype=np.float64)
    return times, np.cumsum(events / np.maximum(at_risk, 1.0))


def expected_lifetime_seconds(lives: Sequence[Life], age_seconds: float = 0.0) -> float | None:
    """Mean further life of a worker that has lived `age_seconds`; None while too little is known."""
    if sum(life.preempted for life in lives) < _FEWEST_PREEMPTIONS:
        return None
    times, hazard = cumulative_hazard(lives)
    total = sum(life.seconds for life in lives)
    average = sum(life.preempted for life in lives) / max(total, 1.0)
    before = float(hazard[np.searchsorted(times, age_seconds, side="right") - 1]) if age_seconds >= times[0] else 0.0
    later = times > age_seconds
    edges = np.concatenate([[age_seconds], times[later]])
    survival = np.exp(-(np.concatenate([[before], hazard[later]]) - before))
    area = float((np.diff(edges) * survival[:-1]).sum())
    return area + float(survival[-1]) / average
