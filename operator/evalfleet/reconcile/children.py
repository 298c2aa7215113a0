"""The state of a one-pod Job in words: from the Job and its pods as the API server shows them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
        termination: the newest termination message of its pods, if any.
        exit_code: of the newest ended container.
        preempted: pods that ended by disruption.
        pod: the newest pod, if any.
    """

    name: str
    phase: Phase
    reason: str = ""
    message: str = ""
    termination: str | None = None
    exit_code: int | None = None
    preempted: int = 0
    pod: Object | None = None


MISSING = Child("", Phase.MISSING)

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def child_of(job: Object | None, pods: Iterable[Object]) -> Child:
    """The state of a Job with its pods."""
    if job is None or job["metadata"].get("deletionTimestamp"):
        return MISSING
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    newest = ordered[-1] if ordered else None
    ended = [state for pod in ordered if (state := _terminated(pod)) is not None]
    phase, reason, message = _phase(job, newest, ended[-1] if ended else None)
    return Child(
        name=str(job["metadata"]["name"]),
        phase=phase,
        reason=reason,
        message=message,
        termination=next((str(s["message"]) for s in reversed(ended) if s.get("message")), None),
        exit_code=int(ended[-1]["exitCode"]) if ended else None,
        preempted=sum(is_disrupted(pod) for pod in ordered),
        pod=newest,
    )


def is_disrupted(pod: Object) -> bool:
    """Whether the pod was taken away (reclaimed, drained, preempted): never a failure."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "DisruptionTarget" and c.get("status") == "True" for c in conditions)


def is_ready(pod: Object | None) -> bool:
    """Whether the pod's container runs."""
    return pod is not None and (pod.get("status") or {}).get("phase") == "Running"


def _phase(job: Object, pod: Object | None, ended: Object | None) -> tuple[Phase, str, str]:
    status = job.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("status") != "True":
            continue
        if condition.get("type") in ("Complete", "SuccessCriteriaMet"):
            return Phase.SUCCEEDED, "", ""
        if condition.get("type") in ("Failed", "FailureTarget"):
            reason, message = _failure(condition, ended)
            return Phase.FAILED, reason, message
    if is_ready(pod):
        return Phase.RUNNING, "", ""
    reason, message = _waiting(pod)
    return Phase.WAITING, reason, message


def _failure(condition: Object, ended: Object | None) -> tuple[str, str]:
    if ended is not None and ended.get("reason") == "OOMKilled":
        return "OutOfMemory", "the container was killed for lack of memory: raise spec.worker.resources.memory"
    reason = str(condition.get("reason") or "Failed")
    detail = "" if ended is None else f" (exit code {ended.get('exitCode')})"
    return reason, f"{condition.get('message') or 'the Job failed'}{detail}"


def _waiting(pod: Object | None) -> tuple[str, str]:
    """Why a pod does not run yet; waiting for a node is waiting, never a failure."""
    if pod is None:
        return "WaitingForPod", "the Job controller has not created the pod yet"
    status = pod.get("status") or {}
    for container in status.get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
        if reason in IMAGE_REASONS:
            return "WaitingForImage", f"the image cannot be pulled: {message or container.get('image')}"
        if reason in CONFIG_REASONS:
            return "PodConfigInvalid", f"the container cannot be configured: {message}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return "WaitingForNode", f"no node fits yet: {condition.get('message') or 'unschedulable'}"
    return "WaitingForPod", "the pod is starting"


def _terminated(pod: Object) -> Object | None:
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        state = (container.get("state") or {}).get("terminated")
        if state is not None:
            return state  # type: ignore[no-any-return]
    return None
