"""What follows for one EvaluationJob, step by step, as tables of states."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from operator_states import NOW, PLAN_REPORT, child, condition, job_state, planned, policy, progress, reported, worker

from evalfleet.controller.settings import Settings
from evalfleet.kube.mergepatch import merge_patched
from evalfleet.reconcile.children import ANOTHER, Phase
from evalfleet.reconcile.conditions import Condition, false, find, merge
from evalfleet.reconcile.decision import Create, Decision, Delete
from evalfleet.reconcile.job.deadline import deadline_of
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.state import Admission, Eta, JobState, Money

FINISH_REPORT: dict[str, Any] = {
    "runId": "uid-1",
    "outcome": "Complete",
    "results": [
        {"evaluation": "e", "metric": "acc", "value": 0.5, "standardError": 0.1, "low": 0.3, "high": 0.7, "n": 25}
    ],
    "samples": {"planned": 25, "scored": 25},
    "time": {"modelLoadSeconds": 2.4},
    "resultsUri": "s3://bucket/runs/results",
}


def stated(step: Decision, kind: str) -> Condition:
    return next(c for c in step.conditions if c.type == kind)


def says(step: Decision, kind: str) -> tuple[str, str]:
    found = stated(step, kind)
    return found.status, found.reason


def created(step: Decision) -> list[str]:
    return [f"{a.body['kind']}/{a.body['metadata']['name']}" for a in step.actions if isinstance(a, Create)]


def has_ended(step: Decision) -> bool:
    return any(c.type in ("Failed", "Succeeded") and c.status != "Unknown" for c in step.conditions)


def deleted(step: Decision) -> list[str]:
    return [a.name for a in step.actions if isinstance(a, Delete)]


REFUSALS: dict[str, tuple[JobState, str, bool]] = {
    "an object of another version": (job_state({"job": None, "problem": "spec.seed: no"}), "NotSupported", False),
    "a missing policy": (job_state({"policy_missing": True}, policyName="x"), "PolicyNotFound", False),
    "no store": (job_state(store=None), "StoreMissing", False),
    "a model on one machine": (job_state(model={"uri": "file:///m"}), "InvalidModelRef", True),
    "a store on one machine": (job_state(store={"uri": "file:///s"}), "InvalidUri", True),
    "remote code with one key": (
        job_state(model={"uri": "hf://a/b", "trustRemoteCode": True}),
        "RemoteCodeForbidden",
        False,
    ),
    "unsafe code with one key": (job_state(confirmRunUnsafeCode=True), "UnsafeCodeForbidden", False),
    "a queue of Kueue, not honoured yet": (job_state({"policy": policy(queueName="team")}), "NotSupported", False),
    "a policy that cannot be read": (job_state({"policy_problem": "pools: Field required"}), "PolicyInvalid", False),
    "a foreign image": (
        job_state({"policy": policy(security={"allowedImages": ["ours/"]})}, worker={"image": "theirs/x"}),
        "ImageForbidden",
        False,
    ),
    "a foreign model": (
        job_state({"policy": policy(security={"allowedModelUriPrefixes": ["s3://ours/"]})}),
        "ModelForbidden",
        False,
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_final_only_when_nothing_outside_the_object_can_mend_it(name: str) -> None:
    place, reason, final = REFUSALS[name]
    step = decide(place)
    assert says(step, "Accepted") == ("False", reason)
    assert not step.actions
    assert any(c.type == "Failed" for c in step.conditions) == final
    assert ("completionTime" in step.status) == final
    assert (step.requeue_seconds is not None) == (not final)


def test_host_nodes_of_one_machine_permit_file_uris() -> None:
    place = job_state(
        {"site": Settings(allow_file_uris=True).site}, model={"uri": "file:///m"}, store={"uri": "file:///s"}
    )
    assert says(decide(place), "Accepted")[0] == "True"


def test_a_new_job_gets_its_spec_and_a_plan_pod() -> None:
    step = decide(job_state())
    assert created(step) == ["ConfigMap/job-run", "Job/job-plan"]
    assert says(step, "Planned") == ("False", "Planning")
    assert says(step, "Ready") == ("False", "Planning")


def test_waiting_for_a_node_is_waiting_and_never_failure() -> None:
    step = decide(job_state({"plan": child(Phase.WAITING, reason="WaitingForNode", message="no node fits yet")}))
    assert says(step, "Planned") == ("Unknown", "WaitingForNode")
    assert says(step, "Reconciling") == ("True", "WaitingForNode")
    assert not has_ended(step)


def test_a_plan_report_is_adopted() -> None:
    step = decide(job_state({"plan": reported(PLAN_REPORT)}))
    assert says(step, "Planned") == ("True", "Planned")
    assert step.status["plan"]["units"] == 10
    assert step.requeue_seconds == 0.0


def test_a_lost_plan_report_is_asked_for_again() -> None:
    step = decide(job_state({"plan": child(Phase.SUCCEEDED, termination=None), "plan_attempt": 1}))
    assert says(step, "Planned") == ("False", "PlanReportLost")
    assert "Job/job-plan-2" in created(step)


@pytest.mark.parametrize(
    ("termination", "reason"),
    [
        (json.dumps({"reason": "InvalidModelRef", "message": "no such model"}), "InvalidModelRef"),
        ("Traceback: boom", "PodFailurePolicy"),
        (None, "PodFailurePolicy"),
    ],
)
def test_a_failed_plan_fails_the_job_in_the_pods_own_words(termination: str | None, reason: str) -> None:
    failed = child(Phase.FAILED, reason="PodFailurePolicy", message="exit code 64", termination=termination)
    step = decide(job_state({"plan": failed}))
    assert says(step, "Failed") == ("True", reason)
    assert says(step, "Succeeded") == ("False", reason)


def test_a_job_that_failed_for_good_is_not_told_of_another_attempt() -> None:
    words = {"reason": "OutOfMemory", "message": f"killed for lack of memory{ANOTHER}"}
    step = decide(job_state({"plan": child(Phase.WAITING, **words)}))
    assert stated(step, "Failed").message == stated(step, "Planned").message == "killed for lack of memory"
    spent = worker(phase=Phase.WAITING, failures=7, **words)
    assert ANOTHER not in stated(decide(job_state(planned(workers=(spent,)))), "Failed").message


def test_a_job_that_is_all_cached_goes_straight_to_its_finish() -> None:
    status = {"conditions": [condition("Planned")], "plan": {"units": 0}}
    step = decide(job_state({"status": status}))
    assert says(step, "Admitted") == ("True", "AllCached")
    assert created(step) == ["Job/job-finish-1"]


def test_the_fleets_refusal_is_repeated_in_its_words() -> None:
    admission = Admission(False, 0, "WaitingForQuota", "all pools are used")
    step = decide(job_state(planned(admission=admission)))
    assert says(step, "Admitted") == ("False", "WaitingForQuota")
    assert stated(step, "Ready").message == "all pools are used"


def test_progress_never_goes_back_nor_beyond_the_plan() -> None:
    status = {**planned()["status"], "progress": {"unitsDone": 6}}
    for told, shown in ((3, 6), (8, 8)):
        step = decide(job_state(planned(status=status, workers=(worker(progress=progress(told)),))))
        assert step.status["progress"]["unitsDone"] == shown
    step = decide(job_state(planned(workers=(worker(progress=progress(99)),))))
    assert created(step) == ["Job/job-finish-1"]


@pytest.mark.parametrize(
    ("in_time", "percent", "said"),
    [
        (0.9, None, ("True", "OnTime")),
        (0.89, None, ("Unknown", "DeadlineUncertain")),
        (0.5, None, ("Unknown", "DeadlineUncertain")),
        (0.49, None, ("False", "DeadlineAtRisk")),
        (0.9, 95, ("Unknown", "DeadlineUncertain")),
        (0.95, 95, ("True", "OnTime")),
        (None, None, ("Unknown", "NotForeseen")),
    ],
)
def test_on_time_is_what_the_probability_and_the_policys_confidence_say(
    in_time: float | None, percent: int | None, said: tuple[str, str]
) -> None:
    sla = {"deadlineTime": (NOW + timedelta(seconds=60)).isoformat()}
    place = planned(workers=(worker(),), eta=Eta(NOW, NOW, NOW, in_time))
    if percent is not None:
        place["policy"] = policy(sla={"confidencePercent": percent})
    step = decide(job_state(place, sla=sla))
    assert says(step, "OnTime") == said
    assert step.requeue_seconds is not None
    assert step.requeue_seconds <= 60


def test_on_time_is_withdrawn_with_the_deadline_and_missed_whatever_a_job_waits_for() -> None:
    late = {"deadlineTime": (NOW - timedelta(seconds=1)).isoformat()}
    for place in (planned(), planned(admission=None), {"policy_problem": "pools: no"}, {}):
        step = decide(job_state(place, sla=late))
        assert says(step, "OnTime") == ("False", "DeadlineMissed")
        known = merge([], step.conditions, 1, "2026-01-01T00:00:00Z")
        edited = merge(known, decide(job_state(place)).conditions, 2, "2026-01-01T00:00:00Z")
        assert find(known, "OnTime") is not None
        assert find(edited, "OnTime") is None


def test_a_deadline_that_has_passed_is_missed_even_where_the_end_cannot_be_foreseen() -> None:
    passed = {"deadlineTime": (NOW - timedelta(seconds=1)).isoformat()}
    assert says(decide(job_state(planned(), sla=passed)), "OnTime") == ("False", "DeadlineMissed")


def test_time_in_suspension_moves_the_deadline() -> None:
    conditions = [{**condition("Suspended"), "lastTransitionTime": (NOW - timedelta(seconds=30)).isoformat()}]
    status = {**planned()["status"], "conditions": [condition("Planned"), *conditions], "time": {"suspendedSeconds": 5}}
    place = job_state(planned(status=status), sla={"completionSeconds": 100})
    assert deadline_of(place) == place.created + timedelta(seconds=100 + 5 + 30)
    assert decide(place).status["time"]["suspendedSeconds"] == 35


def test_cost_is_shown_with_what_the_rest_will_cost() -> None:
    money = Money(Decimal("1.5"), Decimal("4.5"), Decimal(2), "EUR")
    eta = Eta(NOW, NOW + timedelta(minutes=30), NOW, None)
    status = decide(job_state(planned(workers=(worker(),), money=money, eta=eta))).status
    shown = {"spent": "1.5000", "onDemandEquivalent": "4.5000", "currency": "EUR", "projected": "2.5000"}
    assert status["cost"] == shown
    scored = worker(progress=progress(10))
    assert decide(job_state(planned(workers=(scored,), money=money))).status["cost"]["projected"] == "1.5000"


def test_a_refusal_that_a_person_must_mend_is_stalled_and_one_that_waits_is_not() -> None:
    for reason, stalled in (("DeadlineInfeasible", True), ("WaitingForAdmission", False)):
        step = decide(job_state(planned(admission=Admission(False, 0, reason, "words"))))
        assert says(step, "Admitted") == ("False", reason)
        assert any(c.type == "Stalled" for c in step.conditions) is stalled


def test_a_promise_without_guarantee_is_remembered_in_the_condition() -> None:
    admission = Admission(True, 1, "Running", "1 spot worker", best_effort=True)
    assert says(decide(job_state(planned(admission=admission))), "Admitted") == ("True", "BestEffort")


def test_a_fatal_worker_fails_the_job_and_a_retryable_one_does_not_before_the_limit() -> None:
    fatal = worker(phase=Phase.FAILED, reason="PodFailurePolicy", message="exit code 64")
    assert says(decide(job_state(planned(workers=(fatal,)))), "Failed") == ("True", "PodFailurePolicy")
    for failures, ended in ((2, False), (3, True)):
        crash = worker(phase=Phase.FAILED, reason="BackoffLimitExceeded", message="exit code 1", failures=failures)
        step = decide(job_state(planned(workers=(crash,)), backoffLimit=2))
        assert any(c.type == "Failed" for c in step.conditions) == ended


def test_failures_of_workers_that_are_gone_count_once_whatever_pass_is_lost() -> None:
    def seen(before: dict[str, Any], **failures: int) -> tuple[dict[str, Any], int]:
        crashed = tuple(worker(slot, uid=uid, failures=n) for slot, (uid, n) in enumerate(failures.items()))
        status = {**planned()["status"], "workers": before}
        after = decide(job_state(planned(status=status, workers=crashed), backoffLimit=9)).status["workers"]
        return after, after["failures"]

    status, total = seen({}, a=2)
    assert total == 2
    assert seen(status, a=2)[1] == 2
    assert seen(status, a=1)[1] == 2  # a stale listing takes nothing away
    status, total = seen(status, a=3, b=1)
    assert total == 4
    status, total = seen(status, b=1)
    assert (total, status["failed"]) == (4, [{"uid": "b", "count": 1}])
    status, total = seen(status)
    assert (total, status["failed"]) == (4, [])
    assert seen(status, c=1)[1] == 5


def test_a_worker_that_found_nothing_left_leads_to_the_finish() -> None:
    step = decide(job_state(planned(workers=(worker(phase=Phase.SUCCEEDED),))))
    assert created(step) == ["Job/job-finish-1"]


def test_what_was_scored_while_the_operator_was_away_is_finished_without_the_fleet() -> None:
    """After a restart the Fleet has no admission, and never will have: nothing is left to decide about."""
    away = planned(admission=None, workers=(worker(phase=Phase.SUCCEEDED),))
    assert created(decide(job_state(away))) == ["Job/job-finish-1"]


def finishing(report: dict[str, Any] | None) -> JobState:
    finish = child(Phase.SUCCEEDED, name="job-finish-1", termination=json.dumps(report) if report else None)
    return job_state(planned(workers=(worker(phase=Phase.SUCCEEDED),), finish=finish, finish_attempt=1))


def test_a_complete_report_succeeds_with_results_and_intervals() -> None:
    step = decide(finishing(FINISH_REPORT))
    assert says(step, "Ready") == ("True", "Succeeded")
    assert says(step, "Succeeded") == ("True", "Complete")
    assert step.status["results"] == [
        {
            "evaluation": "e",
            "metric": "acc",
            "value": "0.5",
            "n": 25,
            "standardError": "0.1",
            "low": "0.3",
            "high": "0.7",
        }
    ]


def test_results_tell_task_filter_and_method_and_how_many_have_no_room() -> None:
    row = {**FINISH_REPORT["results"][0], "task": "t", "filter": "none", "method": "Wilson"}
    report = {**FINISH_REPORT, "results": [row] * 66, "truncated": 3}
    status = decide(finishing(report)).status
    assert (len(status["results"]), status["resultsTruncated"]) == (64, 5)
    shown = status["results"][0]
    assert (shown["task"], shown["filter"], shown["method"]) == ("t", "none", "Wilson")


def test_an_evaluation_without_a_score_is_the_reason_of_the_end() -> None:
    report = {**FINISH_REPORT, "outcome": "SomeEvaluationsFailed", "messages": ["e2: its metric failed"]}
    step = decide(finishing(report))
    assert says(step, "Failed") == ("True", "SomeEvaluationsFailed")
    assert stated(step, "Failed").message == "e2: its metric failed"
    assert step.status["results"]


def test_failed_samples_are_a_failure_and_never_a_score_of_zero() -> None:
    samples = {"planned": 25, "scored": 24, "failed": 1}
    step = decide(finishing({**FINISH_REPORT, "outcome": "SamplesFailed", "samples": samples}))
    assert says(step, "Failed") == ("True", "SamplesFailed")


def test_an_incomplete_report_sends_workers_back_to_work() -> None:
    step = decide(finishing({**FINISH_REPORT, "outcome": "Incomplete", "unitsLeft": 2}))
    assert deleted(step) == ["job-finish-1", "job-w0-1"]
    assert not has_ended(step)


def test_what_the_store_still_misses_is_believed_rather_than_a_status_that_says_all_is_done() -> None:
    place = finishing({**FINISH_REPORT, "outcome": "Incomplete", "unitsLeft": 2})
    forged = replace(place, status={**place.status, "progress": {"unitsDone": 10}})
    shown = merge_patched({}, decide(forged).status["progress"])
    assert shown == {"percent": 80, "unitsTotal": 10, "unitsDone": 8}


@pytest.mark.parametrize("units", [0, 3])
def test_a_plan_smaller_than_what_is_left_is_read_again(units: int) -> None:
    place = finishing({**FINISH_REPORT, "outcome": "Incomplete", "unitsLeft": 4})
    forged = replace(place, status={**place.status, "plan": {"units": units}})
    step = decide(forged)
    assert says(step, "Planned") == ("False", "PlanReportLost")
    assert step.status["plan"] is None
    before = {**place.status, "conditions": [condition("Planned", "False")], "plan": None}
    again = replace(place, plan=reported(PLAN_REPORT), status=before)
    assert decide(again).status["plan"]["units"] == 10


def test_a_plan_by_which_all_was_done_twice_and_is_not_is_read_again() -> None:
    report = {**FINISH_REPORT, "outcome": "Incomplete", "unitsLeft": 2}
    again = replace(finishing(report), finish_attempt=2)
    step = decide(again)
    assert says(step, "Planned") == ("False", "PlanReportLost")
    assert step.status["plan"] is None


def test_a_metric_that_is_undefined_is_published_as_such() -> None:
    results = [{**FINISH_REPORT["results"][0], "value": None, "standardError": None, "low": None, "high": None}]
    step = decide(finishing({**FINISH_REPORT, "results": results}))
    assert says(step, "Succeeded") == ("True", "Complete")
    assert step.status["results"] == [{"evaluation": "e", "metric": "acc", "value": "NaN", "n": 25}]


def test_reports_that_make_no_sense_are_not_asked_for_again_and_again() -> None:
    for step in (decide(job_state({"plan": reported({"requests": "many"})})), decide(finishing("{}"))):
        assert says(step, "Failed") == ("True", "ReportUnreadable")
        assert deleted(step) == []


def test_a_lost_finish_report_is_asked_for_again() -> None:
    assert created(decide(finishing(None))) == ["Job/job-finish-2"]


def test_a_suspended_job_says_so_and_is_not_terminal() -> None:
    step = decide(job_state(planned(), suspend=True))
    assert says(step, "Suspended") == ("True", "Suspended")
    assert not has_ended(step)


ESTIMATED = {
    **planned()["status"],
    "startTime": (NOW - timedelta(seconds=60)).isoformat(),
    "progress": {"unitsDone": 3, "estimatedCompletionTime": "x", "estimatedLow": "y", "estimatedHigh": "z"},
}
FATAL = worker(phase=Phase.FAILED, reason="PodFailurePolicy", message="exit code 64")
NO_LONGER_WORKED_ON: dict[str, JobState] = {
    "killed at its active deadline": job_state(planned(status=ESTIMATED), activeDeadlineSeconds=60),
    "refused after an edit": job_state({"status": ESTIMATED, "job": None, "problem": "spec.seed: no"}),
    "given up": job_state(planned(status=ESTIMATED, workers=(FATAL,))),
    "suspended": job_state(planned(status=ESTIMATED), suspend=True),
    "held back": job_state(planned(status=ESTIMATED, admission=Admission(False, 0, "BudgetExhausted", "no money"))),
    "finished": replace(finishing(FINISH_REPORT), status=ESTIMATED),
}


@pytest.mark.parametrize("name", NO_LONGER_WORKED_ON)
def test_a_job_that_nobody_works_on_shows_no_estimate_of_its_end(name: str) -> None:
    before = NO_LONGER_WORKED_ON[name]
    after = merge_patched(before.status, decide(before).status)
    assert set(after["progress"]) <= {"unitsDone", "unitsTotal", "percent"}
    assert after["progress"]["unitsDone"] in (3, 10)


def test_a_job_that_ends_before_it_made_progress_shows_none() -> None:
    assert "progress" not in decide(job_state({"job": None, "problem": "spec.seed: no"})).status


def test_a_suspension_is_not_longer_than_the_job_whatever_the_status_says() -> None:
    place = job_state({"status": {"time": {"suspendedSeconds": 9_007_199_254_740_991}}}, sla={"completionSeconds": 100})
    assert deadline_of(place) == place.created + timedelta(seconds=100 + 60)


def test_the_active_deadline_counts_from_the_start() -> None:
    status = {**planned()["status"], "startTime": (NOW - timedelta(seconds=60)).isoformat()}
    early = decide(job_state(planned(status=status), activeDeadlineSeconds=61))
    assert early.requeue_seconds is not None
    assert early.requeue_seconds <= 1.0
    late = decide(job_state(planned(status=status), activeDeadlineSeconds=60))
    assert says(late, "Failed") == ("True", "DeadlineExceeded")


@pytest.mark.parametrize(("age", "gone"), [(59, False), (60, True)])
def test_after_its_ttl_a_finished_job_is_deleted(age: int, gone: bool) -> None:
    done = (NOW - timedelta(seconds=age)).isoformat()
    status = {"conditions": [condition("Succeeded")], "completionTime": done}
    step = decide(job_state({"status": status}, ttlSecondsAfterFinished=60))
    assert ("job" in deleted(step)) == gone
    assert says(step, "Succeeded") == ("True", "R")


def test_a_terminal_job_keeps_its_words_and_loses_its_children() -> None:
    status = {"conditions": [condition("Succeeded", "False")]}
    step = decide(
        job_state({"status": status, "workers": (worker(),), "plan": child(Phase.SUCCEEDED, name="job-plan")})
    )
    assert step.conditions == (false("Succeeded", "R", "m"),)
    assert sorted(deleted(step)) == ["job-plan", "job-w0-1"]


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    assert decide(replace(job_state(), deleting=True)).actions == ()


def test_failed_children_of_an_ended_job_stay_for_their_logs() -> None:
    for minutes, left in ((9, ["job-w1-1"]), (11, ["job-w0-1", "job-w1-1"])):
        since = (NOW - timedelta(minutes=minutes)).isoformat()
        status = {"conditions": [condition("Succeeded", "False")], "completionTime": since, "observedGeneration": 1}
        workers = (worker(0, Phase.FAILED), worker(1, Phase.SUCCEEDED))
        step = decide(job_state({"status": status, "workers": workers}))
        assert deleted(step) == left
        assert (step.requeue_seconds == 60.0) is (minutes == 9)


def test_the_plan_job_makes_room_where_a_quota_on_jobs_leaves_none_for_a_worker() -> None:
    full = Admission(False, 0, "WaitingForQuota", "count/jobs.batch is used up")
    done = child(Phase.SUCCEEDED, name="job-plan")
    assert deleted(decide(job_state(planned(admission=full, plan=done)))) == ["job-plan"]
    assert deleted(decide(job_state(planned(plan=done)))) == []


def test_a_job_that_is_being_deleted_shows_no_worker_and_no_end_of_before() -> None:
    workers = {"desired": 1, "ready": 1}
    before = {**ESTIMATED, "workers": workers, "conditions": [*ESTIMATED["conditions"], condition("WorkersReady")]}
    place = job_state(planned(status=before, deleting=True, plan=child(Phase.RUNNING, name="job-plan")))
    step = decide(place)
    after = merge_patched(before, step.status)
    assert (after["workers"]["desired"], after["workers"]["ready"], after["observedGeneration"]) == (0, 0, 1)
    assert after["progress"] == {"unitsDone": 3}
    assert says(step, "WorkersReady") == ("Unknown", "NotReached")
    assert says(step, "Ready") == ("False", "Deleting")
    assert deleted(step) == ["job-plan"]


def test_a_promise_stands_while_workers_run_though_nobody_can_decide() -> None:
    status = {**planned()["status"], "conditions": [condition("Planned"), condition("Admitted")]}
    trouble = {"policy_problem": "pools: no"}
    for workers, suspend, said in (
        ((worker(),), False, "True"),
        ((), False, "Unknown"),
        ((worker(),), True, "Unknown"),
    ):
        step = decide(job_state(planned(status=status, workers=workers, **trouble), suspend=suspend))
        assert stated(step, "Admitted").status == said
        assert stated(step, "Planned").status == "True"


HALF = {**planned()["status"], "progress": {"unitsDone": 5, "percent": 50}}
STARTING = worker(phase=Phase.WAITING, reason="WaitingForPod", message="the pod is starting")
NO_NODE = worker(phase=Phase.WAITING, reason="WaitingForNode", message="no node fits")
STATES: dict[str, JobState] = {
    "StoreMissing": job_state(store=None),
    "Planning": job_state(),
    "WaitingForNode": job_state(planned(workers=(NO_NODE,))),
    "Queued": job_state(planned(admission=None)),
    "WaitingForQuota": job_state(planned(admission=Admission(False, 0, "WaitingForQuota", "full"))),
    "Starting": job_state(planned(workers=(STARTING,))),
    "Scoring 50 %": job_state(planned(status=HALF, workers=(worker(),))),
    "Finishing": job_state(planned(workers=(worker(phase=Phase.SUCCEEDED),))),
    "Succeeded": finishing(FINISH_REPORT),
    "Failed: SamplesFailed": finishing({**FINISH_REPORT, "outcome": "SamplesFailed"}),
    "Stalled: BudgetExhausted": job_state(planned(admission=Admission(False, 0, "BudgetExhausted", "no money"))),
    "Suspended": job_state(planned(), suspend=True),
    "Deleting": replace(job_state(planned()), deleting=True),
}


@pytest.mark.parametrize("word", STATES)
def test_the_first_column_says_what_is_done_or_waited_for(word: str) -> None:
    place = STATES[word]
    step = decide(place)
    assert step.status["state"] == word
    if has_ended(step):
        conditions = merge([], step.conditions, 1, "2026-01-01T00:00:00Z")
        assert decide(replace(place, status={**place.status, "conditions": conditions})).status["state"] == word


def test_while_no_worker_runs_the_message_is_what_is_waited_for() -> None:
    step = decide(job_state(planned(status=HALF, workers=(NO_NODE,))))
    assert says(step, "Ready") == ("False", "WaitingForNode")
    assert stated(step, "Ready").message == "50 % done; Job job-w0-1: no node fits"


def test_jobs_that_have_done_their_part_make_room_for_the_finish() -> None:
    refused = {**condition("Ready", "False"), "reason": "WaitingForQuota"}
    done = (worker(phase=Phase.SUCCEEDED),)
    for units, left in (
        (10, ["job-plan", "job-w0-1"]),
        (9, []),
    ):  # what its workers say may be ahead of what is counted
        status = {**planned()["status"], "progress": {"unitsDone": units}}
        status["conditions"] = [*status["conditions"], refused]
        plan = child(Phase.SUCCEEDED, name="job-plan")
        step = decide(job_state(planned(status=status, plan=plan, workers=done)))
        assert (deleted(step), created(step)) == (left, ["Job/job-finish-1"])


def test_a_rate_that_is_old_is_not_used_and_what_was_done_stays_done() -> None:
    fresh, old = worker(0, progress=progress(5)), worker(1, progress=progress(6), stale=True)
    both, alone = (decide(job_state(planned(workers=workers))) for workers in ((fresh, old), (old,)))
    assert both.status["progress"]["requestsPerSecond"] == "10.0"
    assert says(both, "ProgressKnown") == ("True", "Reported")
    assert alone.status["progress"].get("requestsPerSecond") is None
    assert alone.status["progress"]["unitsDone"] == 6
    assert says(alone, "ProgressKnown") == ("False", "NoAnswer")


def test_who_waits_is_named_by_job_pod_and_node() -> None:
    pod = {"metadata": {"name": "job-w0-1-abc", "uid": "p"}, "spec": {"nodeName": "n-1"}}
    step = decide(job_state(planned(workers=(replace(STARTING, child=replace(STARTING.child, pod=pod)),))))
    assert stated(step, "WorkersReady").message == "Job job-w0-1, pod job-w0-1-abc on node n-1: the pod is starting"
    planning = child(Phase.WAITING, name="job-plan", reason="WaitingForPod", message="the pod is starting", pod=pod)
    assert (
        "(Job job-plan, pod job-w0-1-abc on node n-1)"
        in stated(decide(job_state({"plan": planning})), "Planned").message
    )
