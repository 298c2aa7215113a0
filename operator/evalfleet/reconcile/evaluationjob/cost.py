"""What a job has cost and is expected to cost, for status. Pure."""

from decimal import Decimal
from typing import Any

from evalfleet.reconcile.evaluationjob.world import World

PLACES = 4


def cost_status(world: World) -> dict[str, Any]:
    """The `cost` member of a status; empty before money was spent."""
    money = world.money
    if money is None:
        return {}
    cost = {
        "spent": f"{money.spent:.{PLACES}f}",
        "onDemandEquivalent": f"{money.on_demand_equivalent:.{PLACES}f}",
        "currency": money.currency,
    }
    if world.eta is not None and not world.terminal:
        hours = max(0.0, (world.eta.expected - world.now).total_seconds()) / 3600
        cost["projected"] = f"{money.spent + money.per_hour * Decimal(repr(hours)):.{PLACES}f}"
    return {"cost": cost}
