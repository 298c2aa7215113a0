"""The fleet decision for one job: spot with slack, on-demand without, waiting in words, bad input a typed error."""

from dataclasses import replace

import pytest
from fleet_snapshots import HOUR, ON_DEMAND, SPOT, count, fleet, job

from evalfleet_scaling.errors import ClockWentBackwardsError, EmptyPoolsError, InvalidJobError, InvalidPoolError
from evalfleet_scaling.fleet import decide_fleet


def test_with_slack_a_job_rides_spot_and_pays_no_on_demand() -> None:
    decision = decide_fleet(fleet(job()))
    assert (count(decision, "a", SPOT), count(decision, "a", ON_DEMAND)) == (4, 0)
    assert decision.of("a").reason == "Running"
    assert decision.of("a").message == "4 spot workers"


def test_without_slack_on_demand_fills_what_spot_does_not() -> None:
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR), spot=0))
    assert count(decision, "a", ON_DEMAND) == 4
    assert decision.of("a").reason == "OnDemandForDeadline"


def test_without_spot_and_with_slack_the_job_waits_and_says_so() -> None:
    decision = decide_fleet(fleet(job(hours=1, deadline_seconds=100 * HOUR), spot=0)).of("a")
    assert (decision.desired_workers, decision.reason) == (0, "NoSpotCapacity")
    assert "on-demand starts before the deadline is in danger" in decision.message


def test_bad_input_is_a_typed_error_that_names_the_field() -> None:
    with pytest.raises(InvalidJobError, match="work_left"):
        job(hours=-1)
    with pytest.raises(InvalidJobError, match="finite"):
        job(hours=float("nan"))
    with pytest.raises(InvalidPoolError, match="price"):
        replace(SPOT, price_per_hour=None)  # type: ignore[arg-type]
    with pytest.raises(EmptyPoolsError):
        fleet(job(), pools=())
    with pytest.raises(ClockWentBackwardsError):
        fleet(job(), now_seconds=5.0, previous_now_seconds=6.0)


def test_no_jobs_is_a_decision_too() -> None:
    assert decide_fleet(fleet()).jobs == ()
