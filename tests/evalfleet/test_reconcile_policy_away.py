"""What runs survives a policy that goes and comes back; what is to stop stops, whatever cannot be read."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from operator_states import (
    NOW,
    child,
    condition,
    disrupted_pod,
    job_state,
    planned,
    policy,
    policy_manifest,
    pool,
    worker,
)

from evalfleet import limits
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import merge
from evalfleet.reconcile.decision import Create, Delete
from evalfleet.reconcile.job.decide import decide as decide_job
from evalfleet.reconcile.job.pods import proposed
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.decide import decide as decide_policy
from evalfleet.reconcile.policy.outcome import PolicyDecision
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet

POLICY = policy(store={"uri": "s3://bucket"})
REMOTE = {"uri": "hf://org/model", "trustRemoteCode": True}


def refused_before(reason: str, seconds: float = 20.0) -> dict[str, Any]:
    since = stamp(NOW - timedelta(seconds=seconds))
    return {**condition("Accepted", "False"), "reason": reason, "lastTransitionTime": since}


def scoring(by: ScalingPolicy | None = POLICY, accepted: dict[str, Any] | None = None, **changes: Any) -> JobState:
    """A run with one worker that began under POLICY; `by` is the policy now."""
    conditions = [condition("Planned"), condition("Admitted"), accepted or condition("Accepted")]
    spec = {"store": None, **changes.pop("spec", {})}
    members = planned(policy=POLICY, policy_uid="one", workers=(worker(),))
    run = proposed(job_state({"policy": POLICY, "policy_uid": "one"}, store=None))
    members |= {"run": run, "policy": by, "policy_uid": "one" if by is not None else ""}
    members["status"] = {**members["status"], "conditions": conditions, **changes.pop("status", {})}
    return job_state({**members, **changes}, **spec)


def decision(job: JobState, by: ScalingPolicy | None, **fields: Any) -> PolicyDecision:
    return decide_policy(PolicyState(NOW, by, {"uid-1": job}, **fields), decide_fleet)


def deleted(found: PolicyDecision) -> list[str]:
    return [action.name for action in found.actions if isinstance(action, Delete)]


@pytest.mark.parametrize("reason", ["PolicyNotFound", "PolicyInvalid", "NotSupported"])
def test_a_policy_that_is_back_finds_its_workers_where_they_were(reason: str) -> None:
    assert deleted(decision(scoring(accepted=refused_before(reason)), POLICY)) == []


def test_the_grace_begins_when_the_policy_goes_not_when_it_became_unreadable() -> None:
    unreadable = scoring(None, refused_before("PolicyInvalid", 3600.0), policy_problem="strategy: Magic")
    gone = replace(unreadable, policy_problem="")
    said = decide_job(gone)
    conditions = merge(gone.status["conditions"], said.conditions, 1, stamp(NOW))
    written = replace(gone, status={**gone.status, **said.status, "conditions": conditions})
    assert deleted(decision(written, None)) == []
    later = replace(written, now=NOW + limits.POLICY_GRACE + timedelta(seconds=1))
    assert deleted(decide_policy(PolicyState(later.now, None, {"uid-1": later}), decide_fleet)) == ["job-w0-1"]
    back = replace(written, policy=POLICY, policy_uid="one")
    assert decide_job(back).status["policyGoneTime"] is None


def test_a_worker_that_waits_when_the_grace_begins_is_looked_at_again() -> None:
    waits = scoring(None, refused_before("PolicyNotFound"), workers=(worker(phase=Phase.WAITING),))
    assert decision(waits, None).requeue_seconds is not None


@pytest.mark.parametrize("trouble", [{"policy_problem": "strategy: Magic"}, {"ledger_problem": "damaged"}])
@pytest.mark.parametrize("stop", [{"spec": {"suspend": True}}, {"deleting": True}], ids=["suspended", "deleted"])
def test_what_is_to_stop_stops_though_nothing_can_be_decided(trouble: dict[str, str], stop: dict[str, Any]) -> None:
    problem = {"policy_problem": trouble["policy_problem"]} if "policy_problem" in trouble else {}
    assert deleted(decision(scoring(**problem, **stop), POLICY, **trouble)) == ["job-w0-1"]
    assert deleted(decision(scoring(**problem), POLICY, **trouble)) == []


def test_a_job_that_is_deleted_waits_for_no_policy() -> None:
    assert deleted(decision(scoring(None, refused_before("PolicyNotFound"), deleting=True), None)) == ["job-w0-1"]


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_a_key_that_is_taken_back_ends_the_plan_as_it_ends_workers(phase: Phase) -> None:
    with_key = ScalingPolicy.model_validate(
        policy_manifest(security={"allowRemoteCode": True}, store={"uri": "s3://bucket"})
    )
    changes = {"policy": with_key, "policy_uid": "one", "plan": child(phase, name="job-plan"), "plan_attempt": 1}
    begun = job_state(changes, store=None, model=REMOTE)
    found = decide_job(replace(begun, policy=POLICY))
    assert [action.name for action in found.actions if isinstance(action, Delete)] == ["job-plan"]
    assert "RemoteCodeForbidden" in [c.reason for c in found.conditions if c.type == "Accepted"]
    workers = planned(**changes, workers=(worker(),))
    scored = job_state({**workers, "plan": child(Phase.MISSING)}, store=None, model=REMOTE)
    assert deleted(decision(replace(scored, policy=POLICY), POLICY)) == ["job-w0-1"]


def test_no_plan_begins_anew_while_the_policy_is_away() -> None:
    lost = {"plan": child(Phase.WAITING, name="job-plan", pod=disrupted_pod()), "plan_attempt": 1}
    begun = {"plan": NOW - timedelta(minutes=1)}
    job = scoring(None, status={"plan": None, "conditions": []}, workers=(), begun=begun, **lost)
    assert not any(isinstance(action, Create) for action in decide_job(job).actions)


@pytest.mark.parametrize("attempt", [1, 5, 50])
def test_a_finish_report_that_went_with_its_pod_never_costs_a_scored_run(attempt: int) -> None:
    done = (worker(phase=Phase.SUCCEEDED),)
    lost = scoring(workers=done, finish=child(Phase.SUCCEEDED, name="job-finish"), finish_attempt=attempt)
    assert "Failed" not in [c.type for c in decide_job(lost).conditions if c.status == "True"]


def test_a_program_that_says_nothing_again_and_again_ends_the_run() -> None:
    mute = child(Phase.SUCCEEDED, name="job-finish", pod={"metadata": {"name": "p", "uid": "p"}, "status": {}})
    done = (worker(phase=Phase.SUCCEEDED),)
    job = scoring(workers=done, finish=mute, finish_attempt=limits.REPORTS_LOST)
    assert [c.reason for c in decide_job(job).conditions if c.type == "Failed"] == ["ReportUnreadable"]


def test_a_run_on_gpus_whose_policy_has_none_any_more_says_so() -> None:
    cpus = policy(pool("own", "Local"), store={"uri": "s3://bucket"})
    admission = decision(scoring(cpus, workers=()), cpus).admissions["uid-1"]
    assert (admission.admitted, admission.reason) == (False, "NoPoolAllowed")
