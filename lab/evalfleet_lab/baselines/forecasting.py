"""Worker policies on the forecasts of other systems, with the very rule that our own forecast feeds.

Only the forecast differs, so a difference in cost is the forecast's. A point forecast P answers for the median, and
safety x P for the quantile; a rule with quantiles of its own gives both. Their constants are chosen online, the safety
by the harness.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_lab.baselines.rule import LevelRule, Rule
from evalfleet_scaling.forecast.decision import Situation, proactive_workers
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import LEVELS, Candidate, Lanes, Observation
from evalfleet_scaling.forecast.workers import DemandForecast, Proactive, recent_rate


class PointProactive:
    """The proactive rule with a point forecast and a safety factor."""

    def __init__(self, lanes: Lanes, told: "Told") -> None:
        self.lanes = lanes
        self.rate = recent_rate(lanes.series)
        self.leads, self.points = told.of(lanes)
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


@dataclass
class Told:
    """What a rule says of the series it was last asked about: tuning replays them again with other settings.

    Attributes:
        rule: the rule.
        levels: asked for.
    """

    rule: Rule | LevelRule
    levels: tuple[float, ...]
    series: tuple[Series, ...] = ()
    leads: tuple[int, ...] = ()
    forecasts: FloatArray = field(default_factory=lambda: np.zeros(0))

    def of(self, lanes: Lanes) -> tuple[tuple[int, ...], FloatArray]:
        """Lead times, and forecasts of shape (minutes, series, leads, levels)."""
        leads = tuple(sorted(set(lanes.lead_minutes.tolist())))
        if self.series is not lanes.series or self.leads != leads:
            self.forecasts = np.stack([self._one(series, leads) for series in lanes.series], axis=1)
            self.series, self.leads = lanes.series, leads
        return leads, self.forecasts

    def _one(self, series: Series, leads: tuple[int, ...]) -> FloatArray:
        each = [self.rule.raw(series, lead, self.levels, tuned=True) for lead in leads]
        return np.stack([np.maximum.accumulate(one, axis=1) for one in each], axis=1)


def _level_policy(lanes: Lanes, told: Told) -> Proactive:
    leads, quantiles = told.of(lanes)
    return Proactive(lanes, DemandForecast(leads, LEVELS, quantiles))


def candidate(rule: Rule | LevelRule) -> Candidate:
    """The proactive rule on the forecasts of a rule."""
    name = f"proactive-{rule.name}"
    if isinstance(rule, LevelRule):
        levels = Told(rule, LEVELS)
        return Candidate(name, lambda lanes: _level_policy(lanes, levels), LEVELS)
    points = Told(rule, (0.5,))
    return Candidate(name, lambda lanes: PointProactive(lanes, points))
