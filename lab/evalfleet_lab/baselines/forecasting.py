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
from evalfleet_scaling.forecast.policy import LEVELS, Candidate, Observation, Scenarios
from evalfleet_scaling.forecast.workers import DemandForecast, Proactive, recent_rate


class PointProactive:
    """The proactive rule with a point forecast and a safety factor."""

    def __init__(self, scenarios: Scenarios, told: "Told") -> None:
        self.scenarios = scenarios
        self.rate = recent_rate(scenarios.series)
        self.leads, self.points = told.of(scenarios)
        self.column = np.searchsorted(self.leads, scenarios.lead_minutes)

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        point = self.points[observed.minute][self.scenarios.source, self.column, 0]
        tuning = self.scenarios.tuning
        return proactive_workers(
            _situation(self.scenarios, self.rate, observed), point, tuning.safety * point, tuning.drain_minutes
        )


def _situation(scenarios: Scenarios, rate: FloatArray, observed: Observation) -> Situation:
    return Situation(
        observed.backlog,
        scenarios.per_scenario(rate[observed.minute]),
        observed.running,
        observed.starting,
        observed.pending_credit,
        scenarios.lead_minutes.astype(np.float64),
        scenarios.tolerated_minutes,
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

    def of(self, scenarios: Scenarios) -> tuple[tuple[int, ...], FloatArray]:
        """Lead times, and forecasts of shape (minutes, series, leads, levels)."""
        leads = tuple(sorted(set(scenarios.lead_minutes.tolist())))
        if self.series is not scenarios.series or self.leads != leads:
            self.forecasts = np.stack([self._one(series, leads) for series in scenarios.series], axis=1)
            self.series, self.leads = scenarios.series, leads
        return leads, self.forecasts

    def _one(self, series: Series, leads: tuple[int, ...]) -> FloatArray:
        each = [self.rule.raw(series, lead, self.levels, tuned=True) for lead in leads]
        return np.stack([np.maximum.accumulate(one, axis=1) for one in each], axis=1)


def _level_policy(scenarios: Scenarios, told: Told) -> Proactive:
    leads, quantiles = told.of(scenarios)
    return Proactive(scenarios, DemandForecast(leads, LEVELS, quantiles))


def candidate(rule: Rule | LevelRule) -> Candidate:
    """The proactive rule on the forecasts of a rule."""
    name = f"proactive-{rule.name}"
    if isinstance(rule, LevelRule):
        levels = Told(rule, LEVELS)
        return Candidate(name, lambda scenarios: _level_policy(scenarios, levels), LEVELS)
    points = Told(rule, (0.5,))
    return Candidate(name, lambda scenarios: PointProactive(scenarios, points))
