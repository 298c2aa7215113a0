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
from evalfleet_scaling.forecast.policy import WIDE_LEVELS, Candidate, Lanes, Observation

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

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.rate = recent_rate(lanes.series)

    def wanted(self, seen: Observation) -> FloatArray:
        """Workers wanted, shape (lanes,)."""
        arriving = self.lanes.tuning.safety * self.lanes.per_lane(self.rate[seen.minute])
        return reactive_workers(seen.backlog, arriving, self.lanes.tuning.drain_minutes)


class _Forecasting:
    """What both policies with a forecast share: its median and its quantile at the level of each lane."""

    def __init__(self, lanes: Lanes, forecast: DemandForecast) -> None:
        missing = set(lanes.lead_minutes.tolist()) - set(forecast.leads)
        if missing or forecast.quantiles.shape[:2] != (len(lanes.series[0]), len(lanes.series)):
            raise InvalidForecastError(
                f"forecasts for lead times {forecast.leads} and shape {forecast.quantiles.shape} do not fit lanes of "
                f"{len(lanes.series)} series, {len(lanes.series[0])} minutes, lead times {sorted(missing)} missing"
            )
        self.lanes, self.forecast = lanes, forecast
        self.rate = recent_rate(lanes.series)
        self.column = np.searchsorted(forecast.leads, lanes.lead_minutes)
        levels = np.asarray(forecast.levels)
        level = np.clip(lanes.tuning.safety, levels[0], levels[-1])
        self.below = np.clip(np.searchsorted(levels, level, side="right") - 1, 0, max(len(levels) - 2, 0))
        self.above = np.minimum(self.below + 1, len(levels) - 1)
        gap = levels[self.above] - levels[self.below]
        self.share = np.where(gap > 0, (level - levels[self.below]) / np.where(gap > 0, gap, 1.0), 0.0)
        self.beyond = np.maximum(lanes.tuning.safety, 1.0)

    def median(self, minute: int) -> FloatArray:
        return np.asarray(self.forecast.quantiles[minute][self.lanes.source, self.column, 0])

    def quantile(self, minute: int) -> FloatArray:
        rows = self.forecast.quantiles[minute]
        low = rows[self.lanes.source, self.column, self.below]
        high = rows[self.lanes.source, self.column, self.above]
        median = rows[self.lanes.source, self.column, 0]
        return np.asarray(median + self.beyond * (low + self.share * (high - low) - median))

    def situation(self, seen: Observation) -> Situation:
        rate = self.lanes.per_lane(self.rate[seen.minute])
        lead = self.lanes.lead_minutes.astype(np.float64)
        return Situation(
            seen.backlog, rate, seen.running, seen.starting, seen.pending_credit, lead, self.lanes.tolerated_minutes
        )


class Proactive(_Forecasting):
    """Workers for the lead-time demand at level `safety`.

    Above 1: at that multiple of the distance from the median to the highest level.
    """

    def wanted(self, seen: Observation) -> FloatArray:
        """Workers wanted, shape (lanes,)."""
        median, quantile = self.median(seen.minute), self.quantile(seen.minute)
        return proactive_workers(self.situation(seen), median, quantile, self.lanes.tuning.drain_minutes)


class Vetoing(_Forecasting):
    """Reaction, and the median forecast may keep workers that are soon needed again (lead time within tolerance)."""

    def wanted(self, seen: Observation) -> FloatArray:
        """Workers wanted, shape (lanes,)."""
        now, tuning = self.situation(seen), self.lanes.tuning
        wanted = reactive_workers(seen.backlog, tuning.safety * now.arriving, tuning.drain_minutes)
        return veto_removal(np.ceil(wanted), now, self.median(seen.minute))


REACTIVE = Candidate("reactive", Reactive)


def proactive(forecast: DemandForecast) -> Candidate:
    """The proactive policy on these forecasts."""
    return Candidate("proactive", lambda lanes: Proactive(lanes, forecast), WIDE_LEVELS)


def vetoing(forecast: DemandForecast) -> Candidate:
    """The reactive policy whose scale-down these forecasts may veto."""
    return Candidate("reactive-veto", lambda lanes: Vetoing(lanes, forecast))
