"""Admission in the fleet decision: what is promised, refused with which words, and kept when workers are short."""

from dataclasses import replace
from decimal import Decimal

from fleet_snapshots import HOUR, ON_DEMAND, count, fleet, job, worker

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import Budget, OnConflict, OnInfeasible


def test_an_infeasible_deadline_is_refused_with_the_earliest_feasible_one_and_that_one_is_accepted() -> None:
    asked = job(hours=40, max_workers=8, deadline_seconds=3 * HOUR, admitted_seconds=None)
    refused = decide_fleet(fleet(asked)).of("a")
    assert (refused.admitted, refused.reason, refused.desired_workers) == (False, "DeadlineInfeasible", 0)
    assert refused.earliest_feasible_deadline_seconds is not None
    assert "the earliest feasible one is 5 h" in refused.message
    again = replace(asked, deadline_seconds=refused.earliest_feasible_deadline_seconds)
    assert decide_fleet(fleet(again)).of("a").admitted


def test_an_infeasible_deadline_may_run_anyway_but_displaces_no_promised_job() -> None:
    promised = job("promised", hours=30, max_workers=8, deadline_seconds=3.8 * HOUR)
    greedy = job(
        "greedy",
        hours=500,
        max_workers=8,
        deadline_seconds=2 * HOUR,
        admitted_seconds=None,
        on_infeasible=OnInfeasible.RUN_ANYWAY,
    )
    decision = decide_fleet(fleet(promised, greedy, spot=0))
    assert decision.of("greedy").best_effort
    assert count(decision, "promised", ON_DEMAND) == 8
    assert count(decision, "greedy", ON_DEMAND) == 0


def test_a_refusal_is_remembered_for_a_minute_and_examined_again_after() -> None:
    asked = job(hours=400, admitted_seconds=None)
    first = decide_fleet(fleet(asked))
    soon = decide_fleet(fleet(asked, now_seconds=30.0, memory=first.memory))
    assert soon.memory.refused == first.memory.refused
    later = decide_fleet(fleet(asked, now_seconds=61.0, memory=soon.memory))
    assert later.memory.refused["a"].retry_seconds == 121.0


def test_a_budget_that_wins_and_cannot_pay_on_demand_is_admitted_without_a_promise() -> None:
    poor = job(hours=4, admitted_seconds=None, budget=Budget(Decimal(6), OnConflict.BUDGET))
    decision = decide_fleet(fleet(poor)).of("a")
    assert (decision.admitted, decision.best_effort) == (True, True)


def test_contended_on_demand_goes_to_the_earliest_deadlines_that_need_it_now() -> None:
    urgent = job("urgent", hours=7, max_workers=8, deadline_seconds=0.95 * HOUR)
    patient = job("patient", hours=7, max_workers=8, deadline_seconds=9 * HOUR)
    have = tuple(worker("patient", slot, ON_DEMAND) for slot in range(8))
    decision = decide_fleet(fleet(urgent, patient, spot=0, workers=have))
    assert count(decision, "urgent", ON_DEMAND) == 8
    assert len(decision.of("patient").victims) == 8


def test_a_runaway_estimate_of_one_job_takes_nothing_from_the_promises_of_others() -> None:
    fine = job("fine", hours=6, max_workers=8, deadline_seconds=0.8 * HOUR)
    poisoned = job("poisoned", hours=1e9, max_workers=10**9, deadline_seconds=0.5 * HOUR, work_total_gpu_seconds=HOUR)
    decision = decide_fleet(fleet(fine, poisoned, spot=0))
    assert count(decision, "fine", ON_DEMAND) == 8
