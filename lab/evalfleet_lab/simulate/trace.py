"""Spot availability and price of one pool over time, on a regular grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalfleet_scaling.errors import InvalidObservationError

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SpotTrace:
    """Workers obtainable (`counts[t]`) and price per hour (`prices[t]`, currency units) at tick t of one pool."""

    name: str
    group: str  # traces of one group belong together: one table, one region, one machine type
    tick_seconds: float
    counts: IntArray  # [T], 0 = nothing obtainable
    prices: FloatArray | None = None  # [T] per worker and hour; None: not known

    def __post_init__(self) -> None:
        if not (np.isfinite(self.tick_seconds) and self.tick_seconds > 0):
            raise InvalidObservationError(f"trace {self.name}: tick_seconds {self.tick_seconds} is not positive")
        if self.counts.ndim != 1 or len(self.counts) == 0:
            raise InvalidObservationError(f"trace {self.name}: counts must be a non-empty list of numbers")
        if bool((self.counts < 0).any()):
            raise InvalidObservationError(f"trace {self.name}: a count is negative")
        if self.prices is not None:
            if self.prices.shape != self.counts.shape:
                raise InvalidObservationError(
                    f"trace {self.name}: {len(self.prices)} prices for {len(self.counts)} ticks"
                )
            if not bool(np.isfinite(self.prices).all()) or bool((self.prices < 0).any()):
                raise InvalidObservationError(f"trace {self.name}: a price is missing, negative or not a number")

    @property
    def largest_count(self) -> int:
        """Most workers ever obtainable at once."""
        return int(self.counts.max())


def evenly_spaced_starts(trace_ticks: int, window_ticks: int, starts: int) -> IntArray:
    """First ticks of `starts` windows of `window_ticks` spread evenly over a trace (linspace, rounded down)."""
    if window_ticks > trace_ticks:
        raise InvalidObservationError(
            f"a window of {window_ticks} ticks (until the deadline) does not fit a trace of {trace_ticks}: "
            "give a longer trace or an earlier deadline"
        )
    return np.linspace(0, trace_ticks - window_ticks, starts).astype(np.int64)
