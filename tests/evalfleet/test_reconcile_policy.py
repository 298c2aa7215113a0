"""Which workers, where: spot first, replaced when reclaimed, within quotas, victims when there are too many."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from operator_states import NOW, disrupted_pod, job_state, planned, policy, pool, progress, worker

from evalfleet import limits
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.decision import Create, Delete
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.decide import scale
from evalfleet.reconcile.policy.gather import ask
from evalfleet.reconcile.policy.jobs import silence_seconds
from evalfleet.reconcile.policy.outcome import Outcome
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.spend import HOUR_MS, SpendLedger, Total


def outcome(*jobs: JobState, by: ScalingPolicy | None = None) -> Outcome:
    named = {f"uid-{number}": job for number, job in enumerate(jobs, start=1)}
    return scale(PolicyState(NOW, by or policy(), named), decide_fleet)


def starts(found: Outcome) -> list[tuple[str, str]]:
    bodies: list[Any] = [action.body for action in found.actions if isinstance(action, Create)]
    return [(body["metadata"]["name"], body["metadata"]["labels"]["evalfleet.io/pool"]) for body in bodies]


def stops(found: Outcome) -> list[str]:
    return [action.name for action in found.actions if isinstance(action, Delete)]


SPOT_AND_STEADY = policy(pool("spot", maxWorkers=2), pool("steady", "OnDemand"))


def test_without_a_deadline_a_job_takes_the_spot_there_is_and_pays_for_nothing_dearer() -> None:
    found = starts(outcome(job_state(planned(), maxWorkers=3), by=SPOT_AND_STEADY))
    assert found == [("job-w0-1", "spot"), ("job-w1-1", "spot")]


def test_a_deadline_that_spot_alone_cannot_keep_starts_on_demand() -> None:
    by = policy(pool("spot", maxWorkers=2), pool("steady", "OnDemand", expectedStartupSeconds=10))
    found = outcome(job_state(planned(), maxWorkers=3, sla={"completionSeconds": 200}), by=by)
    assert found.admissions["uid-1"].admitted
    assert "steady" in [name for _, name in starts(found)]


@pytest.mark.parametrize(
    "by", [policy(pool("steady", "OnDemand")), policy(pool("own", "Local"))], ids=["rented", "own"]
)
def test_where_there_is_no_spot_nobody_waits_for_it(by: ScalingPolicy) -> None:
    found = outcome(job_state(planned(policy=by), maxWorkers=3, sla={"completionSeconds": 86400}), by=by)
    assert len(starts(found)) == 3


def test_an_impossible_deadline_is_refused_and_the_named_one_is_accepted() -> None:
    found = outcome(job_state(planned(), maxWorkers=2, sla={"completionSeconds": 180}), by=SPOT_AND_STEADY)
    admission = found.admissions["uid-1"]
    assert (admission.admitted, admission.reason, starts(found)) == (False, "DeadlineInfeasible", [])
    (named,) = re.findall(r"set sla.deadlineTime to (\S+) or later", admission.message)
    edited = job_state(planned(), maxWorkers=2, sla={"deadlineTime": named})
    for minutes in (0, 4):  # who reads it needs a while to edit it
        later = PolicyState(NOW + timedelta(minutes=minutes), SPOT_AND_STEADY, {"uid-1": edited})
        assert scale(later, decide_fleet).admissions["uid-1"].admitted


def test_an_impossible_deadline_is_run_anyway_when_asked_and_promises_nothing() -> None:
    sla = {"completionSeconds": 180, "onInfeasible": "RunAnyway"}
    admission = outcome(job_state(planned(), maxWorkers=2, sla=sla), by=SPOT_AND_STEADY).admissions["uid-1"]
    assert (admission.admitted, admission.best_effort) == (True, True)


def test_the_finish_step_is_part_of_the_deadline() -> None:
    job = job_state(planned(), sla={"deadlineTime": (NOW + timedelta(hours=2)).isoformat()})
    (core,) = ask(PolicyState(NOW, SPOT_AND_STEADY, {"uid-1": job})).snapshot.jobs
    assert core.deadline_seconds == (NOW + timedelta(hours=2)).timestamp() - limits.FINISH_SECONDS


def test_a_budget_that_is_spent_starts_nobody() -> None:
    ledger = SpendLedger(runs={"uid-1": Total(price_milliseconds=Decimal(5) * HOUR_MS)})
    job = job_state(planned(), budget={"maxCost": "5.00"})
    found = scale(PolicyState(NOW, SPOT_AND_STEADY, {"uid-1": job}, ledger=ledger), decide_fleet)
    assert (starts(found), found.admissions["uid-1"].reason) == ([], "BudgetExhausted")


def test_money_of_the_policy_that_is_spent_today_starts_nobody_until_tomorrow() -> None:
    by = policy(limits={"maxCostPerDay": "10.00"})
    spent = {"2026-01-01": Total(price_milliseconds=Decimal(10) * HOUR_MS)}
    job = {"uid-1": job_state(planned())}
    assert starts(scale(PolicyState(NOW, by, job, ledger=SpendLedger(days=spent)), decide_fleet)) == []
    tomorrow = scale(PolicyState(NOW + timedelta(days=1), by, job, ledger=SpendLedger(days=spent)), decide_fleet)
    assert len(starts(tomorrow)) == 4


def test_a_slower_worker_than_planned_means_more_work_left() -> None:
    slow = worker(0, progress=progress(5, rate=0.1, requests=50))
    (core,) = ask(PolicyState(NOW, None, {"uid-1": job_state(planned(workers=(slow,)))})).snapshot.jobs
    assert core.work_left_gpu_seconds == pytest.approx(500 * 1.05)


def test_a_job_larger_than_the_calendar_is_refused_in_words_and_alone() -> None:
    plan = {"units": 9_007_199_254_740_991, "gpuSeconds": 9_007_199_254_740_991, "requests": 1}
    endless = job_state(planned(status={**planned()["status"], "plan": plan}), sla={"completionSeconds": 180})
    found = outcome(endless, job_state(planned(), maxWorkers=1), by=SPOT_AND_STEADY)
    assert (found.admissions["uid-1"].admitted, found.admissions["uid-1"].reason) == (False, "DeadlineInfeasible")
    assert "no deadline is feasible" in found.admissions["uid-1"].message
    assert found.admissions["uid-2"].admitted


def test_an_absurd_job_is_refused_alone() -> None:
    absurd = job_state(planned(status={**planned()["status"], "plan": {"units": 10, "gpuSeconds": float("nan")}}))
    found = outcome(absurd, job_state(planned(), maxWorkers=1))
    assert (found.admissions["uid-1"].admitted, found.admissions["uid-1"].reason) == (False, "InvalidSpec")
    assert found.admissions["uid-2"].admitted


def test_a_reclaimed_worker_is_removed_and_its_slot_filled_by_the_next_generation() -> None:
    taken = worker(0, pod=disrupted_pod())
    found = outcome(job_state(planned(workers=(taken, worker(1))), maxWorkers=2))
    assert stops(found) == ["job-w0-1"]
    assert starts(found) == [("job-w0-2", "spot")]


def test_six_of_eight_reclaimed_workers_are_replaced_in_one_pass() -> None:
    by = policy(pool("spot", maxWorkers=8))
    status = {**planned()["status"], "plan": {"units": 100, "requests": 100, "gpuSeconds": 1000}}
    workers = tuple(worker(slot, **({"pod": disrupted_pod()} if slot < 6 else {})) for slot in range(8))
    found = outcome(job_state(planned(status=status, workers=workers), maxWorkers=8), by=by)
    assert len(stops(found)) == 6
    assert [name for name, _ in starts(found)] == [f"job-w{slot}-2" for slot in range(6)]


def test_a_smaller_width_takes_the_highest_slots() -> None:
    found = outcome(job_state(planned(workers=tuple(worker(slot) for slot in range(3))), maxWorkers=1))
    assert stops(found) == ["job-w1-1", "job-w2-1"]
    assert starts(found) == []


def test_a_generation_that_was_used_is_never_used_again() -> None:
    found = outcome(job_state(planned(generations={0: 7}), maxWorkers=1))
    assert starts(found) == [("job-w0-8", "spot")]


def test_the_last_in_line_waits_for_spot_in_words() -> None:
    by = policy(pool("spot", maxWorkers=1))
    found = outcome(job_state(planned(), priority=0), job_state(planned(), priority=5), by=by)
    assert found.admissions["uid-2"].desired == 1
    assert (found.admissions["uid-1"].desired, found.admissions["uid-1"].reason) == (0, "NoSpotCapacity")


def test_the_policys_limit_holds_over_all_pools() -> None:
    assert len(starts(outcome(job_state(planned(), maxWorkers=8), by=policy(limits={"maxWorkers": 3})))) == 3


def test_a_suspended_job_keeps_no_worker() -> None:
    found = outcome(job_state(planned(workers=(worker(0), worker(1))), suspend=True))
    assert stops(found) == ["job-w0-1", "job-w1-1"]
    assert starts(found) == []


def test_a_job_that_its_policy_permits_no_more_keeps_no_worker_and_gets_none() -> None:
    with_key = policy(security={"allowRemoteCode": True})
    model = {"uri": "hf://org/model", "trustRemoteCode": True}
    begun = job_state(planned(policy=with_key, workers=(worker(slot=0),)), maxWorkers=3, model=model)
    found = outcome(replace(begun, policy=policy()))
    assert (starts(found), stops(found)) == ([], ["job-w0-1"])


def test_of_two_workers_of_one_slot_the_one_that_runs_stays() -> None:
    twice = (worker(slot=0, generation=2), worker(slot=0, phase=Phase.WAITING, generation=1), worker(slot=1))
    found = outcome(job_state(planned(workers=twice), maxWorkers=2))
    assert (starts(found), stops(found)) == ([], ["job-w0-1"])


def test_a_job_that_is_scored_loses_the_workers_that_still_run() -> None:
    found = outcome(job_state(planned(workers=(worker(0, Phase.SUCCEEDED), worker(1)))))
    assert stops(found) == ["job-w1-1"]


def test_an_unparsable_job_does_not_disturb_the_others() -> None:
    broken = job_state({"job": None, "problem": "absurd"})
    assert starts(outcome(broken, job_state(planned(), maxWorkers=1))) == [("job-w0-1", "spot")]


def test_without_a_policy_any_gpu_node_serves() -> None:
    found = scale(PolicyState(NOW, None, {"uid-1": job_state(planned(), maxWorkers=1)}), decide_fleet)
    assert starts(found) == [("job-w0-1", "default")]


def test_how_long_a_worker_may_be_silent_follows_from_its_units() -> None:
    job = job_state(planned())  # ten units of ten seconds

    def patience(units: int, scoring: float, state: str = "Scoring") -> float:
        own = replace(progress(1), state=state, units_own=units, scoring_seconds=scoring)
        return silence_seconds(job, worker(progress=own))

    assert patience(2, 10.0) == limits.SILENT_UNITS * 10.0
    assert patience(2, 100.0) == limits.SILENT_UNITS * 50.0  # slower than planned: by its own measure
    assert patience(0, 0.0) == patience(2, 10.0, "Waiting") == limits.SILENT_FIRST_SECONDS
    assert silence_seconds(job, worker()) == limits.SILENT_FIRST_SECONDS
