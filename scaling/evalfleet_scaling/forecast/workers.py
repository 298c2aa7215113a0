"""The two worker policies of evalfleet: reaction alone, and the lead-time demand at a quantile."""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.decision import (
    Situation,
    proactive_workers,
    reactive_workers,
    veto_removal,
)
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import WIDE_LEVELS, Candidate, Observation, Scenarios

RATE_MINUTES = 30
"""Arrivals of late are the mean of half an hour: one minute of evaluation arrivals is mostly noise."""


class InvalidForecastError(ScalingInputError):
    """Forecasts do not fit the series or lead times they are for."""


@dataclass(frozen=True, slots=True)
class DemandForecast:
    """Quantiles of lead-time demand, made minute by minute from what was known.

    Attributes:
        leads: lead times in minutes.
        levels: ascending, the first is the median.
        quantiles: shape (minutes, series, leads, levels), GPU-seconds; NaN where there was no forecast.
    """

    leads: tuple[int, ...]
    levels: tuple[float, ...]
    quantiles: FloatArray

    def __post_init__(self) -> None:
        if self.quantiles.ndim != 4 or self.quantiles.shape[2:] != (len(self.leads), len(self.levels)):
            raise InvalidForecastError(
                f"forecasts of shape {self.quantiles.shape} do not have {len(self.leads)} lead times x "
                f"{len(self.levels)} levels as their last axes"
            )
        if list(self.levels) != sorted(self.levels):
            raise InvalidForecastError(f"levels {self.levels} do not ascend")


def recent_rate(series: tuple[Series, ...], minutes: int = RATE_MINUTES) -> FloatArray:
    """Mean demand per observed minute of the last `minutes`, shape (minutes, series); held over gaps, 0 at first."""
    values = np.stack([one.values for one in series], axis=1)
    known = ~np.isnan(values)
    total = _trailing(np.where(known, values, 0.0), minutes)
    count = _trailing(known.astype(np.float64), minutes)
    rate = np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
    rows = np.maximum.accumulate(np.where(np.isnan(rate), -1, np.arange(len(rate))[:, None]), axis=0)
    held = np.take_along_axis(rate, np.maximum(rows, 0), axis=0)
    return np.asarray(np.where(rows >= 0, held, 0.0))


def _trailing(values: FloatArray, minutes: int) -> FloatArray:
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = np.arange(1, len(values) + 1)
    return np.asarray(np.maximum(sums[ends] - sums[np.maximum(ends - minutes, 0)], 0.0))


class Reactive:
    """Drain what waits within the drain target and keep up with `safety` times what arrived of late."""

    def __init__(self, scenarios: Scenarios) -> None:
        self.scenarios = scenarios
        self.rate = recent_rate(scenarios.series)

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        arriving = self.scenarios.tuning.safety * self.scenarios.per_scenario(self.rate[observed.minute])
        return reactive_workers(observed.backlog, arriving, self.scenarios.tuning.drain_minutes)


class _Forecasting:
    """What both policies with a forecast share: its median and its quantile at the level of each scenario."""

    def __init__(self, scenarios: Scenarios, forecast: DemandForecast) -> None:
        missing = set(scenarios.lead_minutes.tolist()) - set(forecast.leads)
        if missing or forecast.quantiles.shape[:2] != (len(scenarios.series[0]), len(scenarios.series)):
            raise InvalidForecastError(
                f"forecasts for lead times {forecast.leads} and shape {forecast.quantiles.shape} do not fit scenarios "
                f"of {len(scenarios.series)} series and {len(scenarios.series[0])} minutes, "
                f"lead times {sorted(missing)} missing"
            )
        self.scenarios, self.forecast = scenarios, forecast
        self.rate = recent_rate(scenarios.series)
        self.column = np.searchsorted(forecast.leads, scenarios.lead_minutes)
        levels = np.asarray(forecast.levels)
        level = np.clip(scenarios.tuning.safety, levels[0], levels[-1])
        self.below = np.clip(np.searchsorted(levels, level, side="right") - 1, 0, max(len(levels) - 2, 0))
        self.above = np.minimum(self.below + 1, len(levels) - 1)
        gap = levels[self.above] - levels[self.below]
        self.share = np.where(gap > 0, (level - levels[self.below]) / np.where(gap > 0, gap, 1.0), 0.0)
        self.beyond = np.maximum(scenarios.tuning.safety, 1.0)

    def median(self, minute: int) -> FloatArray:
        return np.asarray(self.forecast.quantiles[minute][self.scenarios.source, self.column, 0])

    def quantile(self, minute: int) -> FloatArray:
        rows = self.forecast.quantiles[minute]
        low = rows[self.scenarios.source, self.column, self.below]
        high = rows[self.scenarios.source, self.column, self.above]
        median = rows[self.scenarios.source, self.column, 0]
        return np.asarray(median + self.beyond * (low + self.share * (high - low) - median))

    def situation(self, observed: Observation) -> Situation:
        rate = self.scenarios.per_scenario(self.rate[observed.minute])
        lead = self.scenarios.lead_minutes.astype(np.float64)
        return Situation(
            observed.backlog,
            rate,
            observed.running,
            observed.starting,
            observed.pending_credit,
            lead,
            self.scenarios.tolerated_minutes,
        )


class Proactive(_Forecasting):
    """Workers for the lead-time demand at level `safety`.

    Above 1: at that multiple of the distance from the median to the highest level.
    """

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        median, quantile = self.median(observed.minute), self.quantile(observed.minute)
        return proactive_workers(self.situation(observed), median, quantile, self.scenarios.tuning.drain_minutes)


class Vetoing(_Forecasting):
    """Reaction, and the median forecast may keep workers that are soon needed again (lead time within tolerance)."""

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted, shape (scenarios,)."""
        now, tuning = self.situation(observed), self.scenarios.tuning
        wanted = reactive_workers(observed.backlog, tuning.safety * now.arriving, tuning.drain_minutes)
        return veto_removal(np.ceil(wanted), now, self.median(observed.minute))


REACTIVE = Candidate("reactive", Reactive)


def proactive(forecast: DemandForecast) -> Candidate:
    """The proactive policy on these forecasts."""
    return Candidate("proactive", lambda scenarios: Proactive(scenarios, forecast), WIDE_LEVELS)


def vetoing(forecast: DemandForecast) -> Candidate:
    """The reactive policy whose scale-down these forecasts may veto."""
    return Candidate("reactive-veto", lambda scenarios: Vetoing(scenarios, forecast))
