"""Attempts of plan and finish: the infrastructure never ends a run, and nothing is tried in a hot loop."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import kubelet_statuses as kubelet
import pytest
from operator_states import NOW, PLAN_REPORT, child, job_state, planned, reported, worker

from evalfleet import limits
from evalfleet.reconcile.children import Child, Phase, child_of
from evalfleet.reconcile.decision import Create, Decision, Delete
from evalfleet.reconcile.job.attempts import Attempt
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.state import JobState

Object = dict[str, Any]
JOB: Object = {"metadata": {"name": "job-finish-1", "creationTimestamp": "2026-01-01T11:00:00Z"}}
FAILED = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
LIMIT_REACHED = {**JOB, "status": {"failed": 3, "conditions": [FAILED]}}


def pod(write: kubelet.Writer, **metadata: Any) -> Object:
    bare: Object = {
        "metadata": {"name": "p", "uid": "p", "creationTimestamp": "2026-01-01T11:00:00Z", **metadata},
        "spec": {"nodeName": "n-1", "containers": [{"name": "worker", "image": "i:1"}]},
    }
    status = write(bare, lambda later: (NOW + timedelta(seconds=later)).isoformat())
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T11:00:01Z"}
    return {**bare, "status": {**status, "conditions": [*status.get("conditions", []), bound]}}


def finishing(finish: Child, number: int = 1, seconds_ago: float = 3600.0) -> JobState:
    done = worker(phase=Phase.SUCCEEDED)
    begun = {"finish": NOW - timedelta(seconds=seconds_ago)}
    return job_state(planned(workers=(done,), finish=finish, finish_attempt=number, begun=begun))


def planning(plan: Child, number: int = 1, seconds_ago: float = 3600.0) -> JobState:
    return job_state({"plan": plan, "plan_attempt": number, "begun": {"plan": NOW - timedelta(seconds=seconds_ago)}})


def created(step: Decision) -> list[str]:
    return [str(a.body["metadata"]["name"]) for a in step.actions if isinstance(a, Create) and a.body["kind"] == "Job"]


def says(step: Decision, kind: str) -> tuple[str, str, str]:
    return next((c.status, c.reason, c.message) for c in step.conditions if c.type == kind)


TAKEN = [
    (JOB, pod(kubelet.rejected("OutOfcpu", "Node didn't have enough resource: cpu")), "Rejected", "OutOfcpu"),
    (LIMIT_REACHED, pod(kubelet.rejected("UnexpectedAdmissionError", kubelet.NO_DEVICES)), "Rejected", "no healthy"),
    (JOB, pod(kubelet.evicted()), "Evicted", "ephemeral-storage"),
    (JOB, pod(kubelet.running, deletionTimestamp="2026-01-01T11:59:00Z"), "Stuck", "does not answer"),
    (JOB, pod(kubelet.ended(137, "ContainerStatusUnknown")), "Lost", "lost"),
    (JOB, pod(kubelet.creating), "WaitingForPod", "did not start in 300 s"),
    (LIMIT_REACHED, None, "Lost", "its pod is gone"),
]


@pytest.mark.parametrize(("job", "found", "reason", "words"), TAKEN)
def test_an_attempt_that_the_infrastructure_ends_is_followed_by_another(
    job: Object, found: Object | None, reason: str, words: str
) -> None:
    made = child_of(job, [found] if found else [], NOW)
    step = decide(finishing(made))
    assert created(step) == ["job-finish-2"]
    assert says(step, "Ready")[:2] == ("False", reason)
    assert words in says(step, "Ready")[2]
    assert not any(c.type in ("Failed", "Succeeded", "Stalled") and c.status != "Unknown" for c in step.conditions)
    assert created(decide(planning(made))) == ["job-plan-2"]


def test_the_next_attempt_keeps_away_from_the_machine_of_the_last() -> None:
    step = decide(finishing(child_of(JOB, [pod(kubelet.evicted())], NOW)))
    (body,) = [action.body for action in step.actions if isinstance(action, Create)]
    assert "n-1" in str(body["spec"]["template"]["spec"]["affinity"])


@pytest.mark.parametrize("number", [1, 2, 5, 50])
def test_attempts_come_less_and_less_often_but_never_end(number: int) -> None:
    gone = child_of(JOB, [pod(kubelet.evicted())], NOW)
    pause = min(limits.ATTEMPT_PAUSE_SECONDS * 2 ** (number - 1), limits.LONGEST_PAUSE_SECONDS)
    early = decide(finishing(gone, number, pause - 1))
    assert created(early) == []
    assert early.requeue_seconds == pytest.approx(1.0)
    assert f"attempt {number + 1} begins at" in says(early, "Ready")[2]
    assert created(decide(finishing(gone, number, pause))) == [f"job-finish-{number + 1}"]
    assert Attempt(gone, number, NOW).next_due == NOW + timedelta(seconds=pause)


def test_an_image_that_takes_long_is_pulled_in_the_end_and_what_is_missing_everywhere_is_waited_for() -> None:
    slow = child_of(JOB, [pod(kubelet.creating)], NOW)  # an hour already
    most = limits.CPU_START_LONGEST_SECONDS
    assert [Attempt(slow, number).start_seconds for number in (1, 2, 3, 4, 50)] == [300, 600, 1200, most, most]
    unsigned = child_of(JOB, [pod(kubelet.waiting("SignatureValidationFailed", kubelet.UNSIGNED))], NOW)
    step = decide(finishing(unsigned))
    assert (created(step), kubelet.UNSIGNED in says(step, "Ready")[2]) == (["job-finish-2"], True)
    no_secret = kubelet.waiting("CreateContainerConfigError", 'secret "s3" not found')
    assert created(decide(finishing(child_of(JOB, [pod(no_secret)], NOW)))) == []
    failed_once = child_of(JOB, [pod(kubelet.ended(1))], NOW)
    assert created(decide(finishing(failed_once))) == []  # its Job tries again by itself


def test_many_attempts_are_a_matter_for_somebody_and_name_the_request_to_raise() -> None:
    gone = child_of(JOB, [pod(kubelet.evicted())], NOW)
    few, many = (decide(finishing(gone, number, 1.0)) for number in (2, limits.ATTEMPTS_STALLED))
    assert "planResources" not in says(few, "Ready")[2]
    assert not any(c.type == "Stalled" for c in few.conditions)
    assert "raise spec.worker.planResources.ephemeralStorage" in says(many, "Ready")[2]
    assert says(many, "Stalled")[:2] == ("True", "Evicted")


def test_a_program_that_always_fails_beside_a_container_that_never_ends_fails_the_run() -> None:
    found = pod(kubelet.ended(1, message="boom"))
    found["status"] |= {"phase": "Running"}
    found["status"]["containerStatuses"].append({"name": "proxy", "state": {"running": {}}})
    made = child_of(JOB, [found], NOW)
    assert created(decide(finishing(made, 1))) == ["job-finish-2"]
    assert "boom" in says(decide(finishing(made, limits.REPORTS_LOST)), "Failed")[2]


def test_an_older_attempt_goes_in_a_pass_of_its_own() -> None:
    running = replace(finishing(child(Phase.RUNNING)), superseded={"job-finish-1": "uid"}, finish_attempt=2)
    assert [(a.name, a.uid) for a in decide(running).actions if isinstance(a, Delete)] == [("job-finish-1", "uid")]
    assert created(decide(running)) == []


def test_a_program_that_fails_by_itself_fails_the_run_once_its_job_has_given_up() -> None:
    made = child_of(LIMIT_REACHED, [pod(kubelet.ended(1, message="boom"))], NOW)
    step = decide(finishing(made))
    assert says(step, "Failed")[:2] == ("True", "BackoffLimitExceeded")
    assert "boom" in says(step, "Failed")[2]


def test_a_program_that_failed_once_and_was_rejected_twice_is_tried_again() -> None:
    rejected = [pod(kubelet.rejected("OutOfcpu", "m"), uid=f"r{n}") for n in range(2)]
    last = pod(kubelet.ended(1, message="boom"), creationTimestamp="2026-01-01T11:00:09Z")
    assert created(decide(finishing(child_of(LIMIT_REACHED, [*rejected, last], NOW)))) == ["job-finish-2"]


@pytest.mark.parametrize("code", [64, 127])
def test_a_fatal_end_is_final_though_its_job_does_not_say_so_yet(code: int) -> None:
    write = kubelet.ended(code, "StartError" if code == 127 else "Error", '{"reason": "InvalidTask", "message": "no"}')
    step = decide(planning(child_of(JOB, [pod(write)], NOW)))
    assert says(step, "Failed")[:2] == ("True", "InvalidImage" if code == 127 else "InvalidTask")


def test_a_program_that_says_nothing_again_and_again_ends_the_run() -> None:
    silent = child(Phase.SUCCEEDED, pod={"metadata": {"name": "p", "uid": "p"}, "status": {}})
    assert created(decide(planning(silent, limits.REPORTS_LOST - 1))) == [f"job-plan-{limits.REPORTS_LOST}"]
    assert says(decide(planning(silent, limits.REPORTS_LOST)), "Failed")[:2] == ("True", "ReportUnreadable")


def test_a_report_that_went_with_its_pod_is_asked_for_again_however_many_attempts_there_were() -> None:
    lost = child(Phase.SUCCEEDED)
    for number in (1, limits.REPORTS_LOST, 10 * limits.REPORTS_LOST):
        assert created(decide(planning(lost, number, limits.LONGEST_PAUSE_SECONDS))) == [f"job-plan-{number + 1}"]


def test_a_lost_job_is_made_again_only_when_it_is_due() -> None:
    missing = child(Phase.MISSING)
    assert created(decide(planning(missing, 3, 1.0))) == []
    assert created(decide(planning(missing, 3, 60.0))) == ["job-plan-4"]
    assert created(decide(job_state())) == ["job-plan"]


def test_what_the_jobs_own_objects_lack_stalls_it_after_a_bounded_time() -> None:
    write = kubelet.waiting("CreateContainerConfigError", 'secret "s3" not found')
    for seconds, stalled in ((60, False), (limits.STALLED_SECONDS + 1, True)):
        since = (NOW - timedelta(seconds=seconds)).isoformat()
        made = child_of({"metadata": {"name": "job-plan", "creationTimestamp": since}}, [pod(write)], NOW)
        step = decide(planning(made))
        assert any(c.type == "Stalled" for c in step.conditions) is stalled
        assert says(step, "Planned")[:2] == ("Unknown", "SecretMissing")


def test_a_report_is_read_as_soon_as_the_worker_has_ended_whatever_keeps_its_pod() -> None:
    step = decide(planning(reported(PLAN_REPORT)))
    assert says(step, "Planned")[:2] == ("True", "Planned")
