"""From a pool's history to the observation that decisions read."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil

from evalfleet_scaling.model import Pool, PoolObservation
from evalfleet_scaling.spot.history import PoolHistory
from evalfleet_scaling.spot.lifetime import expected_lifetime_seconds

_FEWEST_STARTUPS = 5  # below, the prior is kept if it is larger


@dataclass(frozen=True, slots=True)
class Offer:
    """What the provider shows of a pool now."""

    workers: int | None = None
    since_seconds: float | None = None
    price_per_hour: Decimal | None = None


def startup_quantile(startups_seconds: Sequence[float], quantile: float, prior_seconds: float) -> float:
    """Start-up that is exceeded with probability 1 - quantile: the order statistic ceil((n+1)*q), never optimistic.

    With few observations, or where the order statistic lies beyond the largest, the larger of it and the prior.
    """
    values = sorted(startups_seconds)
    if not values:
        return prior_seconds
    rank = ceil((len(values) + 1) * quantile)
    if len(values) < _FEWEST_STARTUPS or rank > len(values):
        return max(values[-1], prior_seconds)
    return values[rank - 1]


def observe_pool(pool: Pool, history: PoolHistory, offer: Offer) -> PoolObservation:
    """Everything known about a pool, as decisions want it."""
    startups, prior = history.startups_seconds, pool.expected_startup_seconds
    lived_hours = sum(life.seconds for life in history.lives) / 3600.0
    preempted = sum(life.preempted for life in history.lives)
    return PoolObservation(
        pool_name=pool.name,
        offered_workers=offer.workers,
        offered_since_seconds=offer.since_seconds,
        price_per_hour=offer.price_per_hour,
        startup_p50_seconds=startup_quantile(startups, 0.5, prior) if startups else None,
        startup_p95_seconds=startup_quantile(startups, 0.95, prior) if startups else None,
        startup_p99_seconds=startup_quantile(startups, 0.99, prior) if startups else None,
        launches=len(history.launches),
        launch_failures=sum(not obtained for obtained in history.launches),
        cool_down_until_seconds=history.cool_down_until_seconds,
        expected_lifetime_seconds=expected_lifetime_seconds(history.lives) if pool.is_spot else None,
        interruptions_per_hour=preempted / lived_hours if lived_hours > 0 else 0.0,
    )
