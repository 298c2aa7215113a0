"""What a job has cost and is expected to cost, for status. Pure."""

from decimal import Decimal
from typing import Any

from evalfleet.reconcile.job.world import World, fold_progress

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
    scored = 0 < world.planned_units <= fold_progress(world).units_done
    if world.terminal or scored:  # said, not left out: what a patch leaves out stays as it was
        cost["projected"] = cost["spent"]
    elif world.eta is not None:
        hours = max(0.0, (world.eta.expected - world.now).total_seconds()) / 3600
        cost["projected"] = f"{money.spent + money.per_hour * Decimal(repr(hours)):.{PLACES}f}"
    return {"cost": cost}
