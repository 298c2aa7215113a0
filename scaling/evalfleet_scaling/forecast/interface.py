"""What every forecaster, ours or a baseline, is: numbers in minute by minute, quantiles of lead-time demand out.

Conventions, the same everywhere:

- Demand is GPU-seconds newly admitted per bucket of 60 s. A minute nobody observed is NaN: a gap, never a zero.
- Minute `t` has the number `start_minute + t`, minutes since the Unix epoch in the time zone of the user's choice.
- The origin of a forecast is the *end* of minute `t`: all up to and including `values[t]` is known. Its target is
  the lead-time demand `D[t, H] = values[t+1] + ... + values[t+H]`; a target whose window holds a gap or leaves the
  series is NaN and is not scored.
- Quantiles are of D itself. Quantiles of single minutes are never summed: they do not add up.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from evalfleet_scaling.errors import ScalingInputError

FloatArray = NDArray[np.float64]

BUCKET_SECONDS = 60
LARGEST_DEMAND = 1e12
"""GPU-seconds; more in one event or minute is a broken counter, not demand."""
MINUTES_PER_HOUR = 60
MINUTES_PER_DAY = 1_440
DEFAULT_QUANTILES: tuple[float, ...] = (0.5, 0.9, 0.95, 0.99)


class InvalidSeriesError(ScalingInputError):
    """A series is not one-dimensional, or holds a negative or infinite demand."""


@dataclass(frozen=True, slots=True)
class Series:
    """Demand of one (policy, accelerator) per minute.

    Attributes:
        values: shape (minutes,), GPU-seconds that arrived in each minute; NaN where nothing was observed.
        start_minute: number of the first minute since the Unix epoch; gives hour of the day and day of the week.
        name: label of the series in reports.
    """

    values: FloatArray
    start_minute: int = 0
    name: str = ""

    def __post_init__(self) -> None:
        if self.values.ndim != 1:
            raise InvalidSeriesError(f"series {self.name!r}: expected one dimension, got {self.values.ndim}")
        if np.isinf(self.values).any() or (self.values < 0).any():
            raise InvalidSeriesError(f"series {self.name!r}: demand must be finite and not negative (gaps are NaN)")

    def __len__(self) -> int:
        return int(self.values.shape[0])


@runtime_checkable
class Member(Protocol):
    """One forecaster fed minute by minute; cheap to update, never looks ahead."""

    @property
    def name(self) -> str:
        """Name of the model in scores and reports."""
        ...

    def learn_one(self, value: float) -> None:
        """Take the demand of the next minute, GPU-seconds; NaN says that the minute was not observed."""
        ...

    def forecast(self, horizon_minutes: int, quantiles: Sequence[float]) -> FloatArray:
        """Quantiles of the demand of the next `horizon_minutes`, shape (quantiles,), GPU-seconds; NaN where unable."""
        ...


@runtime_checkable
class BatchMember(Protocol):
    """A forecaster that replays a whole series faster than one minute at a time, with the same numbers."""

    def replay(self, series: Series, horizons: Sequence[int], quantiles: Sequence[float]) -> FloatArray:
        """Forecasts of a fresh copy at every origin, shape (minutes, horizons, quantiles)."""
        ...


MemberFactory = Callable[[Series], Member]
"""Builds a fresh member; it may read `start_minute` of the series, never its values."""


def replay(factory: MemberFactory, series: Series, horizons: Sequence[int], quantiles: Sequence[float]) -> FloatArray:
    """Replay a series through a fresh member, vectorised where the member can.

    Returns:
        Shape (minutes, horizons, quantiles): row `t` is the forecast made at the end of minute `t`.
    """
    member = factory(series)
    if isinstance(member, BatchMember):
        return member.replay(series, horizons, quantiles)
    out = np.full((len(series), len(horizons), len(quantiles)), np.nan)
    for minute, value in enumerate(series.values.tolist()):
        member.learn_one(value)
        for column, horizon in enumerate(horizons):
            out[minute, column] = member.forecast(horizon, quantiles)
    return out


def lead_time_demand(values: FloatArray, horizon_minutes: int) -> FloatArray:
    """Targets D[t, H] = values[t+1] + ... + values[t+H], shape (minutes,); NaN where the window has a gap or ends."""
    return np.concatenate([trailing_sum(values, horizon_minutes)[horizon_minutes:], np.full(horizon_minutes, np.nan)])[
        : len(values)
    ]


def trailing_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of the last `window` minutes at every minute, shape (minutes,); NaN before `window` minutes or over a gap."""
    missing = np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(missing, 0.0, values))])
    gaps = np.concatenate([[0], np.cumsum(missing)])
    out = np.full(len(values), np.nan)
    if window <= len(values):
        total = sums[window:] - sums[:-window]
        out[window - 1 :] = np.where(gaps[window:] == gaps[:-window], np.maximum(total, 0.0), np.nan)
    return out
