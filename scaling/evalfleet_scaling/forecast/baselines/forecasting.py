"""Worker policies on the forecasts of other systems, with the very rule that our own forecast feeds.

Only the forecast differs, so a difference in cost is the forecast's. A point forecast P answers for the median, and
safety x P for the quantile; a rule with quantiles of its own gives both. Their constants are chosen online, the safety
by the harness.
"""

import numpy as np

from evalfleet_scaling.forecast.baselines.rule import LevelRule, Rule
from evalfleet_scaling.forecast.decision import Situation, proactive_workers
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.policy import LEVELS, Candidate, Lanes, Observation
from evalfleet_scaling.forecast.workers import DemandForecast, Proactive, recent_rate


class PointProactive:
    """The proactive rule with a point forecast and a safety factor."""

    def __init__(self, lanes: Lanes, rule: Rule) -> None:
        self.lanes = lanes
        self.rate = recent_rate(lanes.series)
        self.leads, self.points = _forecasts(lanes, rule, (0.5,))
        self.column = np.searchsorted(self.leads, lanes.lead_minutes)

    def wanted(self, seen: Observation) -> FloatArray:
        """Workers wanted, shape (lanes,)."""
        point = self.points[seen.minute][self.lanes.source, self.column, 0]
        tuning = self.lanes.tuning
        return proactive_workers(
            _situation(self.lanes, self.rate, seen), point, tuning.safety * point, tuning.drain_minutes
        )


def _situation(lanes: Lanes, rate: FloatArray, seen: Observation) -> Situation:
    return Situation(
        seen.backlog,
        lanes.per_lane(rate[seen.minute]),
        seen.running,
        seen.starting,
        seen.pending_credit,
        lanes.lead_minutes.astype(np.float64),
        lanes.tolerated_minutes,
    )


def _forecasts(lanes: Lanes, rule: Rule | LevelRule, levels: tuple[float, ...]) -> tuple[tuple[int, ...], FloatArray]:
    """Lead times, and forecasts of shape (minutes, series, leads, levels)."""
    leads = tuple(sorted(set(lanes.lead_minutes.tolist())))
    each = [
        np.stack([np.maximum.accumulate(rule.raw(series, lead, levels, tuned=True), axis=1) for lead in leads], axis=1)
        for series in lanes.series
    ]
    return leads, np.stack(each, axis=1)


def _level_policy(lanes: Lanes, rule: LevelRule) -> Proactive:
    leads, quantiles = _forecasts(lanes, rule, LEVELS)
    return Proactive(lanes, DemandForecast(leads, LEVELS, quantiles))


def candidate(rule: Rule | LevelRule) -> Candidate:
    """The proactive rule on the forecasts of a rule."""
    name = f"proactive-{rule.name}"
    if isinstance(rule, LevelRule):
        return Candidate(name, lambda lanes: _level_policy(lanes, rule), LEVELS)
    return Candidate(name, lambda lanes: PointProactive(lanes, rule))
