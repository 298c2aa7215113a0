"""What a job has cost and is expected to cost, for status. Pure."""

from decimal import Decimal
from typing import Any

from evalfleet.reconcile.job.state import JobState, all_scored

PLACES = 4


def cost_status(state: JobState) -> dict[str, Any]:
    """The `cost` member of a status; empty before money was spent."""
    money = state.money
    if money is None:
        return {}
    cost: dict[str, Any] = {
        "projected": None,  # said, not left out: what a patch leaves out stays as it was
        "spent": f"{money.spent:.{PLACES}f}",
        "onDemandEquivalent": f"{money.on_demand_equivalent:.{PLACES}f}",
        "currency": money.currency,
    }
    if state.terminal or (state.is_planned and all_scored(state)):
        cost["projected"] = cost["spent"]
    elif state.eta is not None:
        hours = max(0.0, (state.eta.expected - state.now).total_seconds()) / 3600
        cost["projected"] = f"{money.spent + money.per_hour * Decimal(repr(hours)):.{PLACES}f}"
    return {"cost": cost}
