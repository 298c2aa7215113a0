"""Synthetic spot pools: outages of Weibull length, all-or-nothing or partial counts, price levels that jump.

With shape 1 the durations are exponential and the process is a Markov chain in continuous time; below 1 short outages
and long calms are more frequent than that, as in the public traces.
"""

from dataclasses import dataclass
from math import gamma

import numpy as np

from evalfleet_lab.simulate.trace import FloatArray, IntArray, SpotTrace
from evalfleet_scaling.errors import InvalidObservationError


@dataclass(frozen=True, slots=True)
class SyntheticPool:
    """How a pool behaves; durations in seconds, prices per worker and hour."""

    name: str = "synthetic"
    workers: int = 16
    mean_up_seconds: float = 6 * 3600.0
    mean_down_seconds: float = 3 * 3600.0
    shape: float = 0.7  # of both Weibull distributions
    partial_probability: float = 0.2  # that an offer is less than all workers
    price: float = 1.0
    price_levels: tuple[float, ...] = (1.0,)  # multiples of the price
    mean_price_seconds: float = 12 * 3600.0

    def __post_init__(self) -> None:
        for label, value in (
            ("mean_up_seconds", self.mean_up_seconds),
            ("mean_down_seconds", self.mean_down_seconds),
            ("shape", self.shape),
            ("mean_price_seconds", self.mean_price_seconds),
        ):
            if not (np.isfinite(value) and value > 0):
                raise InvalidObservationError(f"synthetic pool {self.name}: {label} {value} is not positive")
        if not 0 <= self.partial_probability <= 1 or self.workers < 1 or not self.price_levels:
            raise InvalidObservationError(f"synthetic pool {self.name}: no workers, no price level or no probability")


def synthetic_trace(pool: SyntheticPool, *, ticks: int, tick_seconds: float, seed: int) -> SpotTrace:
    """A trace of the pool; equal seeds give equal traces."""
    rng = np.random.default_rng(seed)
    counts = _counts(pool, ticks, tick_seconds, rng)
    prices = _prices(pool, ticks, tick_seconds, rng)
    return SpotTrace(pool.name, "synthetic", tick_seconds, counts, prices)


def _counts(pool: SyntheticPool, ticks: int, tick_seconds: float, rng: np.random.Generator) -> IntArray:
    counts = np.zeros(ticks, dtype=np.int64)
    up = bool(rng.random() < pool.mean_up_seconds / (pool.mean_up_seconds + pool.mean_down_seconds))
    at = 0
    while at < ticks:
        mean = pool.mean_up_seconds if up else pool.mean_down_seconds
        scale = mean / gamma(1 + 1 / pool.shape)
        span = max(1, round(scale * float(rng.weibull(pool.shape)) / tick_seconds))
        partial = pool.workers > 1 and rng.random() < pool.partial_probability
        offered = int(rng.integers(1, pool.workers)) if partial else pool.workers
        counts[at : at + span] = offered if up else 0
        at, up = at + span, not up
    return counts


def _prices(pool: SyntheticPool, ticks: int, tick_seconds: float, rng: np.random.Generator) -> FloatArray:
    prices = np.empty(ticks)
    at = 0
    while at < ticks:
        span = max(1, round(float(rng.exponential(pool.mean_price_seconds)) / tick_seconds))
        prices[at : at + span] = pool.price * float(rng.choice(np.asarray(pool.price_levels)))
        at += span
    return prices
