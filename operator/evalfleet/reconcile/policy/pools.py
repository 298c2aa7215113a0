"""Pools and limits of a policy as the capacity core knows them; built-in defaults without a policy. Pure."""

from decimal import Decimal

from evalfleet.api.scalingpolicy import Limits as PolicyLimits
from evalfleet.api.scalingpolicy import NodePool, ScaleDown, ScaleUp, ScalingPolicy
from evalfleet_scaling.model import CapacityType, Limits, Pool, StrategyName

Spent = tuple[Decimal, Decimal, Decimal]
"""Money of the running UTC hour, day and month."""

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


def core_limits(policy: ScalingPolicy | None, spent: Spent) -> Limits:
    """The limits and rates of a policy as the capacity core knows them, with what is spent in the running periods."""
    if policy is None:
        return Limits()
    limits, up, down = (
        policy.spec.limits or PolicyLimits(),
        policy.spec.scale_up or ScaleUp(),
        policy.spec.scale_down or ScaleDown(),
    )
    return Limits(
        max_workers=limits.max_workers,
        max_cost_per_hour=_money(limits.max_cost_per_hour),
        max_cost_per_day=_money(limits.max_cost_per_day),
        max_cost_per_month=_money(limits.max_cost_per_month),
        spent_this_hour=spent[0],
        spent_this_day=spent[1],
        spent_this_month=spent[2],
        scale_up_workers_per_minute=up.max_workers_per_minute,
        scale_down_stabilization_seconds=float(down.stabilization_window_seconds),
    )


def strategy(policy: ScalingPolicy | None) -> StrategyName:
    """The strategy of a policy; where there is no spot to wait for, nothing is won by waiting."""
    named = StrategyName(policy.spec.strategy) if policy is not None else StrategyName.ELASTIC_AUTO
    has_spot = any(pool.capacity_type == "Spot" for pool in node_pools(policy))
    return named if has_spot or named is not StrategyName.ELASTIC_AUTO else StrategyName.ON_DEMAND_ONLY


def on_demand_price(pools: tuple[NodePool, ...]) -> Decimal | None:
    """The cheapest price of a machine that stays, for the on-demand equivalent; None where no pool tells one.

    What is reserved, or has no price, was paid elsewhere: it is not what on-demand machines cost.
    """
    prices = [Decimal(pool.price_per_hour) for pool in pools if pool.capacity_type == "OnDemand"]
    return min((price for price in prices if price > 0), default=None)


def currency(policy: ScalingPolicy | None) -> str:
    """The currency of a policy's prices."""
    return policy.spec.currency if policy is not None else "USD"


def _money(amount: str | None) -> Decimal | None:
    return None if amount is None else Decimal(amount)
