"""Pools in the fleet decision: cool-down, spread, what a job may use, on-demand that spills over."""

from dataclasses import replace
from decimal import Decimal

from fleet_snapshots import HOUR, ON_DEMAND, SPOT, SPOT_B, count, fleet, job

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import PoolObservation


def test_a_pool_that_cools_down_is_left_alone() -> None:
    seen = (PoolObservation(SPOT.name, 8, cool_down_until_seconds=100.0), PoolObservation(SPOT_B.name, 8))
    decision = decide_fleet(fleet(job(), pools=(SPOT, SPOT_B, ON_DEMAND), observations=seen))
    assert (count(decision, "a", SPOT), count(decision, "a", SPOT_B)) == (0, 4)


def test_two_active_spot_pools_share_a_job() -> None:
    decision = decide_fleet(fleet(job(), pools=(SPOT, SPOT_B, ON_DEMAND)))
    assert (count(decision, "a", SPOT), count(decision, "a", SPOT_B)) == (2, 2)


def test_only_allowed_pools_are_used_and_none_allowed_is_said() -> None:
    pools = (SPOT, SPOT_B, ON_DEMAND)
    only_b = decide_fleet(fleet(job(allowed_pools=frozenset({"spot-b"})), pools=pools))
    assert (count(only_b, "a", SPOT), count(only_b, "a", SPOT_B)) == (0, 4)
    nowhere = decide_fleet(fleet(job(allowed_pools=frozenset({"elsewhere"})), pools=pools)).of("a")
    assert (nowhere.reason, nowhere.admitted, nowhere.desired_workers) == ("NoPoolAllowed", False, 0)


def test_pools_without_a_place_are_no_pools_and_nobody_is_told_to_wait_for_spot() -> None:
    closed = tuple(replace(pool, max_workers=0) for pool in (SPOT, ON_DEMAND))
    for pools in (closed, closed[:1], closed[1:]):
        decision = decide_fleet(fleet(job(), job("b", deadline_seconds=None), pools=pools))
        for name in "ab":
            assert (decision.of(name).reason, decision.of(name).admitted) == ("NoPoolAllowed", False)
            assert "maxWorkers" in decision.of(name).message


def test_a_deadline_that_has_passed_is_refused_in_words_of_the_past() -> None:
    message = decide_fleet(fleet(job(deadline_seconds=-60.0, admitted_seconds=None))).of("a").message
    assert "a deadline 60 s ago;" in message


def test_on_demand_spills_over_to_the_next_pool_when_the_cheapest_is_full() -> None:
    small = replace(ON_DEMAND, name="small", price_per_hour=Decimal(2), max_workers=1)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR), spot=0, pools=(SPOT, small, ON_DEMAND)))
    assert (count(decision, "a", small), count(decision, "a", ON_DEMAND)) == (1, 3)
