"""The state of a one-pod Job: from the Job and its pods as the API server shows them. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from evalfleet.reconcile.redact import redacted
from evalfleet_worker.protocol import ErrorReport, ExitCode, loads

Object = Mapping[str, Any]


class Phase(StrEnum):
    """Where a child is."""

    MISSING = "Missing"
    WAITING = "Waiting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Child:
    """A one-pod Job.

    Attributes:
        name: name of the Job.
        phase: where it is.
        reason: CamelCase: what it waits for, or why it failed.
        message: the same as a sentence.
        termination: termination message of the newest ended container, if any.
        exit_code: of the newest ended container.
        preempted: pods that ended by disruption.
        pod: the newest pod, if any.
        disrupted: whether that pod was taken away.
        uid: of the Job.
    """

    name: str
    phase: Phase
    reason: str = ""
    message: str = ""
    termination: str | None = None
    exit_code: int | None = None
    preempted: int = 0
    pod: Object | None = None
    disrupted: bool = False
    uid: str = ""


MISSING = Child("", Phase.MISSING)

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
START_REASONS = frozenset({"StartError", "ContainerCannotRun"})
"""What the container runtimes say of a program that is not in the image (containerd, dockershim)."""
FINISHED_JOB = frozenset({"Complete", "SuccessCriteriaMet", "Failed", "FailureTarget"})
GAVE_UP = frozenset({int(ExitCode.DISRUPTED), int(ExitCode.TERMINATED)})
HOPELESS = frozenset({"InvalidImage", "OutOfMemory"})
"""Reasons that another attempt with the same manifest does not mend; they say enough without the log."""
ANOTHER = "; another attempt follows"
NO_WORKER = "No module named evalfleet_worker"


def child_of(job: Object | None, pods: Iterable[Object]) -> Child:
    """The state of a Job with its pods."""
    if job is None or job["metadata"].get("deletionTimestamp"):
        return MISSING
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    newest = ordered[-1] if ordered else None
    ended = [state for pod in ordered if (state := _terminated(pod)) is not None]
    phase, reason, message = _phase(job, newest)
    return Child(
        name=str(job["metadata"]["name"]),
        phase=phase,
        reason=reason,
        message=redacted(message),
        termination=(str(ended[-1].get("message") or "") or None) if ended else None,
        exit_code=int(ended[-1]["exitCode"]) if ended else None,
        preempted=sum(is_disrupted(pod) for pod in ordered),
        pod=newest,
        disrupted=newest is not None and is_disrupted(newest),
        uid=str(job["metadata"].get("uid") or ""),
    )


def is_disrupted(pod: Object) -> bool:
    """Whether the pod was taken away (reclaimed, drained, preempted): never a failure."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "DisruptionTarget" and c.get("status") == "True" for c in conditions)


def bound_at(pod: Object) -> datetime | None:
    """When the pod was bound to a node, None before that."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    bound = (c for c in conditions if c.get("type") == "PodScheduled" and c.get("status") == "True")
    text = next((condition.get("lastTransitionTime") for condition in bound), None)
    return datetime.fromisoformat(str(text)) if text else None


def is_ready(pod: Object | None) -> bool:
    """Whether the pod's container runs."""
    return pod is not None and (pod.get("status") or {}).get("phase") == "Running"


def _phase(job: Object, pod: Object | None) -> tuple[Phase, str, str]:
    finished = _finished_by(job)
    if finished is not None and pod is not None and not _is_over(pod):
        # Jobs and pods are watched apart: the Job's end may be seen before the end of its pod.
        return Phase.RUNNING, "Ending", "its pod is ending"
    if finished is not None and finished["type"] in ("Complete", "SuccessCriteriaMet"):
        return Phase.SUCCEEDED, "", ""
    if finished is not None:
        return Phase.FAILED, *_failure(finished, pod)
    if is_ready(pod):
        return Phase.RUNNING, "", ""
    if pod is not None and _is_over(pod):
        return _between_attempts(pod)
    return Phase.WAITING, *_waiting(str(job["metadata"]["name"]), pod)


def _finished_by(job: Object) -> Object | None:
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("status") == "True" and c.get("type") in FINISHED_JOB), None)


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _between_attempts(pod: Object) -> tuple[Phase, str, str]:
    """The newest pod has ended and the Job has not: it is about to try again, with back-off after a failure."""
    ended = _terminated(pod)
    if (pod.get("status") or {}).get("phase") == "Succeeded":
        return Phase.RUNNING, "Ending", "its pod has ended"
    if is_disrupted(pod):
        return Phase.WAITING, "WaitingForPod", "its pod was taken away: another one follows"
    if ended is not None and ended.get("exitCode") in GAVE_UP:
        said = _last_report(ended)
        left = (str(said.reason), said.message) if said else ("WaitingForPod", "its pod was told to stop")
        return Phase.WAITING, left[0], left[1] + ANOTHER
    reason, message = _pod_failure(pod, ended)
    if reason == "InvalidImage":
        return Phase.FAILED, reason, message
    return Phase.WAITING, reason or "Retrying", message + ANOTHER


def _failure(finished: Object, pod: Object | None) -> tuple[str, str]:
    """Why a Job has failed: what its last pod shows, else the Job's own reason."""
    ended = None if pod is None else _terminated(pod)
    reason, message = ("", "") if pod is None else _pod_failure(pod, ended)
    if reason:
        return reason, message
    detail = "" if ended is None else f" (exit code {ended.get('exitCode')})"
    return str(finished.get("reason") or "Failed"), f"{finished.get('message') or 'the Job failed'}{detail}"


def _pod_failure(pod: Object, ended: Object | None) -> tuple[str, str]:
    """Reason and message for a failed pod; an empty reason when only its own report can tell."""
    if ended is None:
        status = pod.get("status") or {}
        text = status.get("message") or status.get("reason")
        return "", f"the last attempt failed: {text or 'its pod ended without a word'}"
    container: Object = next(iter(pod["spec"]["containers"]), {})
    if ended.get("reason") == "OOMKilled":
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        bound = f"limit {limit}" if limit else "the node's memory is exhausted"
        return "OutOfMemory", f"killed for lack of memory ({bound}): raise spec.worker.resources.memory"
    said = str(ended.get("message") or "")
    advice = "name an image of the worker in spec.worker.image (of the job or of the policy)"
    if ended.get("reason") in START_REASONS:
        return "InvalidImage", f"image {container.get('image')} cannot run the worker: {said.strip()[-300:]}; {advice}"
    if NO_WORKER in said:
        return "InvalidImage", f"image {container.get('image')} does not contain evalfleet_worker; {advice}"
    report = _last_report(ended)
    text = report.message if report else said.strip()[-300:]
    tail = f": {text}" if text else ""
    return "", f"the last attempt failed (exit code {ended.get('exitCode')}){tail}"


def _last_report(ended: Object) -> ErrorReport | None:
    """What a worker command said at its end, if it said anything."""
    try:
        return loads(ErrorReport, str(ended.get("message") or ""))
    except ValueError:
        return None


def _waiting(job_name: str, pod: Object | None) -> tuple[str, str]:
    """Why a pod does not run yet; waiting for a node is waiting, never a failure."""
    if pod is None:
        advice = f"if this stays, kubectl describe job {job_name} says why (service account, quota, pod security)"
        return "WaitingForPod", f"the Job controller has not created the pod yet; {advice}"
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in IMAGE_REASONS:
            return "WaitingForImage", f"the image cannot be pulled: {message or container.get('image')}"
        if reason in CONFIG_REASONS:
            return _not_configured(message)
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return _not_scheduled(str(condition.get("message") or "unschedulable"))
    return "WaitingForPod", "the pod is starting"


def _not_configured(message: str) -> tuple[str, str]:
    missing = re.search(r'secret "([^"]+)" not found', message)
    if missing is None:
        return "PodConfigInvalid", f"the container cannot be configured: {message}"
    return "SecretMissing", f"Secret {missing.group(1)} does not exist: create it and the job goes on by itself"


def _not_scheduled(message: str) -> tuple[str, str]:
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing is None:
        return "WaitingForNode", f"no node fits yet: {message}"
    message = f"PersistentVolumeClaim {missing.group(1)} does not exist: create it and the job goes on by itself"
    return "ClaimMissing", message


def _terminated(pod: Object) -> Object | None:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        state = (container.get("state") or {}).get("terminated")
        if state is not None:
            return state  # type: ignore[no-any-return]
    return None
