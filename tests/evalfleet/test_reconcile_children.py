"""A one-pod Job in words: every way in which it waits, fails, is tried again, or ends."""

from datetime import UTC, datetime
from typing import Any

import pytest

from evalfleet.reconcile.children import MISSING, Child, Phase
from evalfleet.reconcile.children import child_of as judged
from evalfleet.reconcile.pod_reasons import Whose

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def child_of(found: Object | None, pods: list[Object], *refusals: str) -> Child:
    return judged(found, pods, NOW, refusals)


def job(condition: str | None = None, reason: str = "R", **metadata: Any) -> Object:
    conditions = (
        [{"type": condition, "status": "True", "reason": reason, "message": "said the Job"}] if condition else []
    )
    return {"metadata": {"name": "x-plan", **metadata}, "status": {"conditions": conditions}}


def pod(phase: str = "Pending", state: Object | None = None, created: int = 0, **status: Any) -> Object:
    container = {"name": "worker", "image": "image:1", "resources": {"limits": {"memory": "2Gi"}}}
    statuses = [{"name": "worker", "image": "image:1", "state": state}] if state else []
    return {
        "metadata": {"name": f"x-plan-{created}", "creationTimestamp": f"2026-01-01T00:00:0{created}Z"},
        "spec": {"nodeName": "n", "containers": [container]},
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


def unbound(conditions: list[Object]) -> Object:
    found = pod(conditions=conditions)
    return {**found, "spec": {**found["spec"], "nodeName": ""}}


def waiting(reason: str, message: str = "") -> Object:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def condition(kind: str, status: str, message: str = "") -> list[Object]:
    return [{"type": kind, "status": status, "message": message}]


DISRUPTED = condition("DisruptionTarget", "True")
UNSCHEDULABLE = condition("PodScheduled", "False", "0/2 nodes are available")
NO_CLAIM = condition("PodScheduled", "False", 'persistentvolumeclaim "models" not found')
NO_STORE = '{"reason": "StoreUnavailable", "message": "s3://nowhere does not answer"}'
NO_MODULE = "python3: No module named evalfleet_worker\n"


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (None, "WaitingForPod", "kubectl describe job x-plan"),
        (pod(), "WaitingForPod", "starting"),
        (unbound(UNSCHEDULABLE), "WaitingForNode", "0/2 nodes are available"),
        (unbound(NO_CLAIM), "ClaimMissing", "models"),
        (pod(state=waiting("ImagePullBackOff", "no such image")), "WaitingForImage", "no such image"),
        (pod(state=waiting("ErrImagePull")), "WaitingForImage", "image:1"),
        (pod(state=waiting("CreateContainerConfigError", 'secret "s3" not found')), "SecretMissing", "Secret s3 "),
        (pod(state=waiting("CreateContainerConfigError", "no key")), "PodConfigInvalid", "no key"),
        (pod("Failed", ended(1, message="boom")), "Retrying", "(exit code 1): boom"),
        (pod("Failed", reason="OutOfcpu", message="no cpu left"), "Rejected", "OutOfcpu: no cpu left; another"),
        (pod("Failed", ended(137, "OOMKilled")), "OutOfMemory", "limit 2Gi"),
        (pod("Failed", ended(137), conditions=DISRUPTED), "Reclaimed", "taken away"),
        (pod("Failed", ended(143)), "WaitingForPod", "told to stop"),
        (pod("Failed", ended(75, message=NO_STORE)), "StoreUnavailable", "s3://nowhere does not answer; another"),
        (pod("Failed", ended(1, message=NO_STORE)), "Retrying", "(exit code 1): s3://nowhere does not answer; another"),
    ],
)
def test_a_child_waits_in_words(found: Object | None, reason: str, words: str) -> None:
    child = child_of(job(), [found] if found else [])
    assert (child.phase, child.reason) == (Phase.WAITING, reason)
    assert words in child.message


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        (pod("Failed", ended(64, message="last words")), "R", "said the Job (exit code 64)"),
        (pod("Failed", ended(137, "OOMKilled")), "OutOfMemory", "raise spec.worker.resources.memory"),
        (pod("Failed", ended(128, "StartError", 'exec: "python": not found')), "InvalidImage", "not found"),
        (pod("Failed", ended(127, "ContainerCannotRun")), "InvalidImage", "spec.worker.image"),
        (pod("Failed", ended(1, message=NO_MODULE)), "InvalidImage", "image:1 does not contain evalfleet_worker"),
        (None, "R", "said the Job"),
    ],
)
def test_a_failed_job_tells_what_its_last_pod_shows(found: Object | None, reason: str, words: str) -> None:
    child = child_of(job("Failed"), [found] if found else [])
    assert (child.phase, child.reason) == (Phase.FAILED, reason)
    assert words in child.message


def test_an_image_that_cannot_run_the_worker_has_failed_before_the_job_gives_up() -> None:
    assert child_of(job(), [pod("Failed", ended(1, message=NO_MODULE))]).phase is Phase.FAILED


@pytest.mark.parametrize("finished", ["Complete", "SuccessCriteriaMet", "Failed", "FailureTarget"])
def test_a_finished_job_is_not_judged_before_the_last_words_of_its_pod_are_seen(finished: str) -> None:
    assert child_of(job(finished), [pod("Running", {"running": {}})]).phase is Phase.RUNNING


def test_a_complete_job_has_succeeded_with_its_report_though_its_pod_may_be_gone() -> None:
    seen = child_of(job("Complete"), [pod("Succeeded", ended(0, "Completed", '{"units": 1}'))])
    assert (seen.phase, seen.termination) == (Phase.SUCCEEDED, '{"units": 1}')
    lost = child_of(job("Complete"), [])
    assert (lost.phase, lost.termination) == (Phase.SUCCEEDED, None)


def test_last_words_are_those_of_the_newest_pod() -> None:
    first = pod("Failed", ended(1, message="an old story"), created=1)
    assert child_of(job("Failed"), [pod("Failed", ended(137, "OOMKilled"), created=2), first]).termination is None


def test_a_pod_that_runs_is_running_and_one_that_succeeded_has_before_its_job_says_so() -> None:
    assert child_of(job(), [pod("Running", {"running": {}})]).phase is Phase.RUNNING
    done = child_of(job(), [pod("Succeeded", ended(0, message="report"))])
    assert (done.phase, done.termination) == (Phase.SUCCEEDED, "report")


def test_only_the_container_worker_speaks_for_the_worker() -> None:
    """Kubelets list containers by name, and what others inject may come first, fail, or never end."""
    done = beside(pod("Running", ended(0, message="report")), {"running": {}})
    assert (child_of(job(), [done]).phase, child_of(job(), [done]).termination) == (Phase.SUCCEEDED, "report")
    works = beside(pod("Running", {"running": {}}), ended(137, "OOMKilled"))
    assert (child_of(job(), [works]).phase, child_of(job(), [works]).termination) == (Phase.RUNNING, None)
    fatal = beside(pod("Running", ended(64, message=NO_STORE)), {"running": {}})
    assert (child_of(job(), [fatal]).phase, child_of(job(), [fatal]).termination) == (Phase.FAILED, NO_STORE)
    failed = child_of(job(), [beside(pod("Running", ended(1, message="boom")), {"running": {}})])
    assert (failed.phase, failed.failures) == (Phase.WAITING, 1)
    assert "container aa-proxy still runs" in failed.message


def beside(found: Object, state: Object) -> Object:
    """The pod with another container before the worker."""
    statuses = [{"name": "aa-proxy", "image": "proxy:1", "state": state}, *found["status"]["containerStatuses"]]
    return {**found, "status": {**found["status"], "containerStatuses": statuses}}


def test_what_a_kubelet_rejected_is_no_failure_of_the_worker() -> None:
    counted = {**job("Failed", "BackoffLimitExceeded"), "status": {"failed": 3, **job("Failed")["status"]}}
    rejected = [pod("Failed", reason="OutOfcpu", message="m", created=n) for n in range(2)]
    child = child_of(counted, [*rejected, pod("Failed", ended(1), created=3)])
    assert (child.phase, child.failures) == (Phase.FAILED, 1)
    assert child_of(counted, [pod("Failed", ended(1)), *rejected]).phase is Phase.WAITING


def test_a_job_that_another_controller_suspended_keeps_its_place() -> None:
    child = child_of({**job(), "spec": {"suspend": True}}, [])
    assert (child.phase, child.reason, child.whose) == (Phase.WAITING, "SuspendedElsewhere", Whose.OTHER)


def test_a_job_without_a_pod_says_what_its_controller_says() -> None:
    said = 'Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest": host namespaces'
    child = child_of(job(), [], said)
    assert (child.reason, child.whose) == ("ObjectRefused", Whose.JOB)
    assert "violates PodSecurity" in child.message


def test_a_job_that_is_absent_or_being_deleted_is_missing() -> None:
    assert child_of(None, []) is MISSING
    assert child_of(job(deletionTimestamp="2026-01-01T00:00:00Z"), [pod()]) is MISSING


def test_pods_that_were_taken_away_are_counted() -> None:
    pods = [pod("Failed", ended(137), created=n, conditions=DISRUPTED) for n in range(3)]
    assert child_of(job(), [*pods, pod("Running", {"running": {}}, created=5)]).preempted == 3
