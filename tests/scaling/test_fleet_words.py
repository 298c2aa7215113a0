"""What a job is told: a full pool of its own is no quota to wait for, and on-demand without a deadline keeps none."""

from decimal import Decimal

import pytest

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import CapacityType, FleetDecision, FleetSnapshot, Job, Pool, StrategyName

POOLS = (
    Pool("spot", CapacityType.SPOT, Decimal(1), 8, expected_startup_seconds=10),
    Pool("steady", CapacityType.ON_DEMAND, Decimal(3), 8, expected_startup_seconds=10),
)


def on_demand_only(*jobs: Job) -> FleetDecision:
    return decide_fleet(FleetSnapshot(0.0, POOLS, jobs, strategy=StrategyName.ON_DEMAND_ONLY))


@pytest.mark.parametrize("width", [8, 12], ids=["as wide as the pool", "wider than the pool"])
def test_a_job_without_deadline_that_has_every_on_demand_place_simply_runs(width: int) -> None:
    decision = on_demand_only(Job("a", 4000.0, width)).of("a")
    assert (decision.reason, decision.message) == ("Running", "8 on-demand workers")


def test_a_job_whose_places_another_one_has_waits_for_quota() -> None:
    decision = on_demand_only(Job("a", 4000.0, 8), Job("b", 4000.0, 8, submitted_seconds=1.0))
    assert sorted({decision.of(name).desired_workers for name in "ab"}) == [4]
    assert {decision.of(name).reason for name in "ab"} == {"WaitingForQuota"}


def test_a_job_with_a_deadline_is_told_that_on_demand_keeps_it() -> None:
    decision = on_demand_only(Job("a", 4000.0, 2, deadline_seconds=7200.0)).of("a")
    assert (decision.reason, decision.desired_workers) == ("OnDemandForDeadline", 2)
