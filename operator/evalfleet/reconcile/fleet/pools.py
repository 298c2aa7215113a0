"""Pools and limits of a policy in the words of the capacity core; built-in defaults without a policy. Pure."""

from decimal import Decimal

from evalfleet.api.scalingpolicy import NodePool, ScalingPolicy
from evalfleet_scaling.model import CapacityType, Limits, Pool, StrategyName

DEFAULT_POOL = NodePool(name="default", capacity_type="OnDemand", node_selector={}, price_per_hour="0", max_workers=8)
"""Without a policy: any node with a GPU, at most eight workers, no price."""


def node_pools(policy: ScalingPolicy | None) -> tuple[NodePool, ...]:
    """The pools of a policy, or the default one."""
    return tuple(policy.spec.pools) if policy is not None else (DEFAULT_POOL,)


def core_pool(pool: NodePool) -> Pool:
    """A pool as the capacity core knows it."""
    return Pool(
        name=pool.name,
        capacity_type=CapacityType(pool.capacity_type),
        price_per_hour=Decimal(pool.price_per_hour),
        max_workers=pool.max_workers,
        zone=pool.zone or "",
        expected_startup_seconds=float(pool.expected_startup_seconds),
        priority=pool.priority,
    )


def core_limits(policy: ScalingPolicy | None) -> Limits:
    """The limits of a policy as the capacity core knows them."""
    spec = policy.spec if policy is not None else None
    limits = spec.limits if spec is not None else None
    if limits is None:
        return Limits()
    return Limits(
        max_workers=limits.max_workers,
        max_cost_per_hour=_money(limits.max_cost_per_hour),
        max_cost_per_day=_money(limits.max_cost_per_day),
        max_cost_per_month=_money(limits.max_cost_per_month),
    )


def strategy(policy: ScalingPolicy | None) -> StrategyName:
    """The strategy of a policy."""
    return StrategyName(policy.spec.strategy) if policy is not None else StrategyName.ELASTIC_AUTO


def on_demand_price(pools: tuple[NodePool, ...]) -> Decimal:
    """The cheapest price that is not spot, for the on-demand equivalent; spot's own where there is none."""
    prices = [Decimal(pool.price_per_hour) for pool in pools if pool.capacity_type != "Spot"]
    return min(prices or [Decimal(pool.price_per_hour) for pool in pools])


def _money(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
