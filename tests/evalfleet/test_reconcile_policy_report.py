"""What a ScalingPolicy shows: jobs, workers, pools, money, limits in words, and why nothing is decided."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from operator_states import NOW, condition, job_state, planned, policy, pool, worker

from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.kube.mergepatch import merge_patched
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import merge
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.decide import decide
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.report import unwritable, with_refusals
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.spend import HOUR_MS, SpendLedger, Total
from evalfleet_scaling.spot.history import Life, PoolHistory

Object = dict[str, Any]


def status(*jobs: JobState, by: ScalingPolicy | None = None, before: Object | None = None, **fields: Any) -> Object:
    """The status of a policy after a pass."""
    named = {f"uid-{n}": job for n, job in enumerate(jobs, 1)}
    state = PolicyState(NOW, by or policy(), named, generation=7, status=before or {}, **fields)
    decision = decide(state, decide_fleet)
    conditions = merge(state.status.get("conditions") or [], decision.conditions, 7, stamp(NOW))
    return merge_patched(state.status, {**decision.status, "conditions": conditions})


def condition_of(found: Object, kind: str) -> tuple[str, str]:
    (one,) = [entry for entry in found["conditions"] if entry["type"] == kind]
    assert one["observedGeneration"] == 7
    return one["status"], one["reason"]


def named(name: str, found: Object) -> Object:
    (one,) = [entry for entry in found["pools"] if entry["name"] == name]
    return dict(one)


def test_a_policy_without_jobs_is_ready_and_shows_its_pools() -> None:
    found = status()
    assert {kind: condition_of(found, kind)[0] for kind in ("Ready", "ScalingActive", "AbleToScale")} == {
        "Ready": "True",
        "ScalingActive": "True",
        "AbleToScale": "True",
    }
    assert condition_of(found, "ScalingLimited") == ("False", "WithinLimits")
    assert [entry["name"] for entry in found["pools"]] == ["spot", "steady"]
    assert found["jobs"] == {"queued": 0, "admitted": 0, "running": 0}
    assert "lastDecision" not in found


def test_jobs_are_counted_by_how_far_they_are_and_ended_ones_not_at_all() -> None:
    admitted = {"conditions": [condition("Planned"), condition("Admitted")], "plan": {"units": 10, "gpuSeconds": 100}}
    over = job_state({"status": {"conditions": [condition("Succeeded")]}})
    running = job_state(planned(status=admitted, workers=(worker(0), worker(1, Phase.WAITING))))
    found = status(job_state(), running, over)
    assert found["jobs"] == {"queued": 1, "admitted": 1, "running": 1}


def test_workers_are_counted_by_pool_and_kind() -> None:
    steady = worker(2, Phase.WAITING, "steady", capacity_type="OnDemand")
    found = status(job_state(planned(workers=(worker(0), worker(1, Phase.WAITING), steady))))
    assert found["workers"] == {"desired": 3, "ready": 1, "spot": 2, "onDemand": 1}
    assert named("spot", found) == {"name": "spot", "workers": 2, "ready": 1, "interruptions": 0}
    assert named("steady", found) == {"name": "steady", "workers": 1, "ready": 0, "interruptions": 0}


def test_a_pool_shows_what_was_seen_of_it() -> None:
    lives = (Life(60.0, preempted=True), Life(60.0, preempted=False))
    until = NOW.timestamp() + 60
    history = PoolHistory("spot", startups_seconds=(12.4,), lives=lives, cool_down_until_seconds=until)
    found = status(by=policy(pool("spot", expectedStartupSeconds=5)), pool_histories=PoolHistories({"spot": history}))
    assert named("spot", found) == {
        "name": "spot",
        "workers": 0,
        "ready": 0,
        "interruptions": 1,
        "startupSecondsP50": 12,
        "coolDownUntil": "2026-01-01T12:01:00Z",
    }


def test_money_is_that_of_the_running_hour_day_and_month_of_utc() -> None:
    def total(cost: str, on_demand: str) -> Total:
        return Total(Decimal(cost) * HOUR_MS, Decimal(on_demand) * HOUR_MS, HOUR_MS)

    ledger = SpendLedger(
        hours={"2026-01-01T12": total("0.5", "2"), "2026-01-01T11": total("70", "70")},
        days={"2026-01-01": total("1.25", "5"), "2025-12-31": total("70", "70")},
        months={"2026-01": total("1.00004", "5"), "2025-12": total("70", "70")},
    )
    cost = status(ledger=ledger)["cost"]
    assert cost == {
        "spentHour": "0.5000",
        "spentDay": "1.2500",
        "spentMonth": "1.0000",
        "savedVersusOnDemand": "4.0000",
    }


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"maxWorkers": 1}, "maxWorkers"),
        ({"maxCostPerHour": "2.00"}, "maxCostPerHour"),
        ({"maxCostPerDay": "0.00"}, "maxCostPerDay"),
        ({"maxCostPerMonth": "0.00"}, "maxCostPerMonth"),
    ],
    ids=lambda value: "",
)
def test_a_limit_that_holds_workers_back_is_named(limits: Object, words: str) -> None:
    found = status(job_state(planned(), maxWorkers=4), by=policy(limits=limits))
    assert condition_of(found, "ScalingLimited") == ("True", "LimitReached")
    (limited,) = [entry["message"] for entry in found["conditions"] if entry["type"] == "ScalingLimited"]
    assert words in limited


def test_jobs_that_are_not_admitted_are_counted_in_words() -> None:
    found = status(job_state(planned(), sla={"completionSeconds": 70}))
    assert condition_of(found, "ScalingLimited") == ("True", "JobsWait")


def test_the_last_decision_stays_until_another_one_changes_something() -> None:
    first = status(job_state(planned(), maxWorkers=1))
    assert first["lastDecision"]["reason"] == "Scaled"
    assert first["lastDecision"]["message"].startswith("1 worker to start, 0 to stop")
    later = status(job_state(planned(workers=(worker(0),)), maxWorkers=1), before=first)
    assert later["lastDecision"] == first["lastDecision"]


def test_a_policy_for_which_nothing_is_decided_says_why_and_keeps_what_it_showed() -> None:
    before = status(job_state(planned(workers=(worker(0),)), maxWorkers=1))
    found = status(before=before, ledger_problem="ConfigMap x: version 9")
    assert condition_of(found, "Stalled") == ("True", "LedgerUnreadable")
    assert condition_of(found, "Ready") == ("False", "LedgerUnreadable")
    assert "ConfigMap x: version 9" in found["conditions"][0]["message"]
    assert (found["workers"], found["cost"]) == (before["workers"], before["cost"])
    mended = status(before=found)
    assert condition_of(mended, "Ready")[0] == "True"
    assert "Stalled" not in [entry["type"] for entry in mended["conditions"]]


def test_what_nobody_was_told_yet_is_that_nothing_is_decided() -> None:
    told = job_state(planned())
    untold = replace(told, admission=None)
    state = PolicyState(NOW, policy(), {"uid-1": told, "uid-2": untold}, policy_problem="strategy: Magic")
    decision = decide(state, decide_fleet)
    assert (decision.actions, decision.outcome) == ((), None)
    assert {uid: (v.admitted, v.reason) for uid, v in decision.admissions.items()} == {"uid-2": (False, "InvalidSpec")}


def test_a_job_whose_first_worker_is_refused_says_the_words_of_the_api_server_and_others_do_not() -> None:
    jobs = {"uid-1": job_state(planned()), "uid-2": job_state(planned(workers=(worker(0),)), maxWorkers=2)}
    state = PolicyState(NOW, policy(), jobs)
    decision = decide(state, decide_fleet)
    words = ("ObjectRefused", "the API server refuses an object of this job: no")
    told = with_refusals(state, decision, {"uid-1": words, "uid-2": words, "a deleted worker": words})
    assert (told.admissions["uid-1"].admitted, told.admissions["uid-1"].reason) == (False, "ObjectRefused")
    assert told.admissions["uid-2"] == decision.admissions["uid-2"]
    assert "JobsWait" in [condition.reason for condition in told.conditions]
    (able,) = [c for c in told.conditions if c.type == "AbleToScale"]
    assert (able.status, able.reason, able.message) == ("False", *words)
    assert (decision.status["state"], told.status["state"]) == ("Ready", "ObjectRefused")
    assert with_refusals(state, decision, {}) == decision


def test_a_policy_for_which_nothing_is_decided_restates_every_condition() -> None:
    found = status(before=status(), ledger_problem="no JSON")
    assert condition_of(found, "Ready") == ("False", "LedgerUnreadable")
    for kind in ("AbleToScale", "ScalingLimited"):
        assert condition_of(found, kind) == ("Unknown", "NotReached")
    assert found["state"] == "Stalled: LedgerUnreadable"


def test_while_what_is_spent_cannot_be_written_nothing_starts_and_what_runs_goes_on() -> None:
    jobs = {"uid-1": job_state(planned()), "uid-2": job_state(planned(workers=(worker(0),)))}
    state = PolicyState(NOW, policy(), jobs, generation=7)
    decision = decide(state, decide_fleet)
    assert any(isinstance(action, Create) for action in decision.actions)
    told = unwritable(state, decision, "403: exceeded quota")
    assert told.actions == tuple(action for action in decision.actions if not isinstance(action, Create))
    assert (told.admissions["uid-1"].admitted, told.admissions["uid-1"].reason) == (False, "LedgerUnwritable")
    assert told.admissions["uid-2"] == decision.admissions["uid-2"]
    found = {c.type: (c.status, c.reason) for c in told.conditions}
    assert found["Stalled"] == ("True", "LedgerUnwritable")
    assert len(found) == len(told.conditions)
    assert told.status["state"] == "Stalled: LedgerUnwritable"
