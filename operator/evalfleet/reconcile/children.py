"""The state of a one-pod Job: from the Job and its pods as the API server shows them. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from evalfleet.manifests.names import LABEL_ROLE
from evalfleet.manifests.pod import PLAN_MEMORY
from evalfleet.reconcile.liveness import (
    FOREVER,
    Broken,
    Ended,
    Gone,
    Healthy,
    Held,
    NoNode,
    Silent,
    Starting,
    Verdict,
    alive_beside,
    is_disrupted,
    judge,
    moment,
    worker_end,
)
from evalfleet.reconcile.pod_reasons import WORKER, Reason, Whose, refusal_reason
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
        termination: termination message of the newest worker that ended, if any.
        exit_code: of the same.
        preempted: pods that ended by disruption.
        pod: the newest pod, if any.
        uid: of the Job.
        gone: why the infrastructure ended that pod; None when it did not.
        whose: whose fault it is that it waits; None when nobody's.
        created: when the Job was created.
        over: whether the Job makes no further pod.
        failures: its pods that failed by themselves.
    """

    name: str
    phase: Phase
    reason: str = ""
    message: str = ""
    termination: str | None = None
    exit_code: int | None = None
    preempted: int = 0
    pod: Object | None = None
    uid: str = ""
    gone: Gone | None = None
    whose: Whose | None = None
    created: datetime | None = None
    over: bool = False
    failures: int = 0

    @property
    def disrupted(self) -> bool:
        """Whether the infrastructure ended its pod: never a failure."""
        return self.gone is not None


MISSING = Child("", Phase.MISSING)

START_REASONS = frozenset({"StartError", "ContainerCannotRun"})
"""What the container runtimes say of a program that is not in the image (containerd, dockershim)."""
FINISHED_JOB = frozenset({"Complete", "SuccessCriteriaMet", "Failed", "FailureTarget"})
GAVE_UP = frozenset({int(ExitCode.DISRUPTED), int(ExitCode.UNKNOWN_PROTOCOL), int(ExitCode.TERMINATED)})
HOPELESS = frozenset({"InvalidImage", "OutOfMemory"})
"""Reasons that another attempt with the same manifest does not mend; they say enough without the log."""
ANOTHER = "; another attempt follows"
NO_WORKER = "No module named evalfleet_worker"
_State = tuple[Phase, str, str, Whose | None]


def child_of(job: Object | None, pods: Iterable[Object], now: datetime, refusals: Iterable[str] = ()) -> Child:
    """The state of a Job with its pods; `refusals` are the Job controller's messages where it could create none."""
    if job is None or job["metadata"].get("deletionTimestamp"):
        return MISSING
    ordered = sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")))
    newest = ordered[-1] if ordered else None
    ends = [end for pod in ordered if (end := worker_end(pod, now)) is not None]
    verdict = None if newest is None else judge(newest, now, FOREVER)
    phase, reason, message, whose = _state(job, newest, verdict, refusals)
    return Child(
        name=str(job["metadata"]["name"]),
        phase=phase,
        reason=reason,
        message=redacted(message),
        termination=(ends[-1].message or None) if ends else None,
        exit_code=ends[-1].exit_code if ends else None,
        preempted=sum(is_disrupted(pod) for pod in ordered),
        pod=newest,
        uid=str(job["metadata"].get("uid") or ""),
        gone=verdict if isinstance(verdict, Gone) else None,
        whose=whose,
        created=moment(job["metadata"].get("creationTimestamp")),
        over=is_over(job),
        failures=_failed_pods(job, ordered, now),
    )


def _failed_pods(job: Object, pods: Iterable[Object], now: datetime) -> int:
    """Pods of a Job that failed by themselves.

    The Job controller counts those too that a kubelet rejected, not those that another container keeps alive, and all
    of them later than their pods show it; it remembers those that are gone.
    """
    counted = int((job.get("status") or {}).get("failed") or 0)
    verdicts = [(pod, judge(pod, now, FOREVER)) for pod in pods]
    rejected = sum(isinstance(verdict, Gone) and not is_disrupted(pod) for pod, verdict in verdicts)
    failed = sum(isinstance(verdict, Ended) and verdict.exit_code not in (0, *GAVE_UP) for _, verdict in verdicts)
    return max(counted - rejected, failed)


def _state(job: Object, pod: Object | None, verdict: Verdict | None, refusals: Iterable[str]) -> _State:
    finished = _finished_by(job)
    if isinstance(verdict, Gone):
        return Phase.WAITING, verdict.cause, f"{_name(pod)}: {verdict.message}{ANOTHER}", None
    if isinstance(verdict, Ended) and pod is not None:
        return _ended(pod, verdict, finished)
    if finished is not None and pod is not None and not isinstance(verdict, Broken):
        # Jobs and pods are watched apart: the Job's end may be seen before the end of its pod.
        return Phase.RUNNING, "Ending", "its pod is ending", None
    if finished is not None:
        return _without_worker(finished, verdict)
    if isinstance(verdict, Healthy | Silent):
        return Phase.RUNNING, "", "", None
    why = _without_pod(job, refusals) if verdict is None else _reason_of(verdict)
    return Phase.WAITING, why.reason, why.message, why.whose


def _reason_of(verdict: Verdict) -> Reason:
    """Why a pod waits."""
    if isinstance(verdict, Broken):
        return Reason(verdict.reason, verdict.message, verdict.whose)
    assert isinstance(verdict, NoNode | Starting | Held)
    return verdict.why


def _without_pod(job: Object, refusals: Iterable[str]) -> Reason:
    """Why a Job has no pod."""
    if (job.get("spec") or {}).get("suspend"):
        message = "its Job is suspended by another controller (a queue?): it keeps its place and goes on when released"
        return Reason("SuspendedElsewhere", message, Whose.OTHER)
    said = refusal_reason(refusals)
    if said is not None:
        return said
    name = job["metadata"]["name"]
    advice = f"if this stays, kubectl describe job {name} says why (service account, quota, pod security)"
    return Reason("WaitingForPod", f"the Job controller has not created the pod yet; {advice}")


def _without_worker(finished: Object, verdict: Verdict | None) -> _State:
    """A Job that is over and whose pod is gone, or never began."""
    if finished["type"] in ("Complete", "SuccessCriteriaMet"):
        return Phase.SUCCEEDED, "", "", None
    if isinstance(verdict, Broken):
        return Phase.WAITING, verdict.reason, verdict.message + ANOTHER, verdict.whose
    return Phase.FAILED, str(finished.get("reason") or "Failed"), str(finished.get("message") or "the Job failed"), None


def is_over(job: Object) -> bool:
    """Whether a Job makes no further pod."""
    return _finished_by(job) is not None


def _finished_by(job: Object) -> Object | None:
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c.get("status") == "True" and c.get("type") in FINISHED_JOB), None)


def _ended(pod: Object, end: Ended, finished: Object | None) -> _State:
    """The worker has ended by itself: that is the end, whatever other containers and the Job still do."""
    if end.exit_code == 0:
        return Phase.SUCCEEDED, "", "", None
    reason, message = _failure_reason(pod, end)
    kept_alive = f" (container {', '.join(beside)} still runs)" if (beside := alive_beside(pod)) else ""
    if reason == "InvalidImage" or finished is not None or end.exit_code == ExitCode.FATAL:
        known = finished or {}
        why = reason or str(known.get("reason") or "PodFailurePolicy"), message or _said(known, end)
        return Phase.FAILED, *why, None
    if end.exit_code in GAVE_UP:
        said = _last_report(end)
        left = (str(said.reason), said.message) if said else ("WaitingForPod", "its pod was told to stop")
        return Phase.WAITING, left[0], left[1] + kept_alive + ANOTHER, None
    return Phase.WAITING, reason or "Retrying", f"{message or _said({}, end)}{kept_alive}{ANOTHER}", None


def _failure_reason(pod: Object, end: Ended) -> tuple[str, str]:
    """Reason and message of a failed worker where its own report does not tell."""
    container: Object = next((c for c in pod["spec"]["containers"] if c.get("name") == WORKER), {})
    if end.reason == "OOMKilled":
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        bound = f"limit {limit}" if limit else "the node's memory is exhausted"
        return "OutOfMemory", f"killed for lack of memory ({bound}): raise {_memory_member(pod)}"
    advice = "name an image of the worker in spec.worker.image (of the job or of the policy)"
    if end.reason in START_REASONS:
        said = end.message.strip()[-300:]
        return "InvalidImage", f"image {container.get('image')} cannot run the worker: {said}; {advice}"
    if NO_WORKER in end.message:
        return "InvalidImage", f"image {container.get('image')} does not contain evalfleet_worker; {advice}"
    return "", ""


def _memory_member(pod: Object) -> str:
    """What of the spec decides the memory of a pod."""
    if (pod["metadata"].get("labels") or {}).get(LABEL_ROLE) not in ("plan", "finish"):
        return "spec.worker.resources.memory"
    default = f"unset, it is spec.worker.resources.memory, at most {PLAN_MEMORY}"
    return f"spec.worker.planResources.memory ({default})"


def _said(finished: Object, end: Ended) -> str:
    """What a worker, or its Job, says of an end that only it can tell."""
    if finished:
        return f"{finished.get('message') or 'the Job failed'} (exit code {end.exit_code})"
    report = _last_report(end)
    why = report.message if report else end.message.strip()[-300:]
    return f"the last attempt failed (exit code {end.exit_code}){f': {why}' if why else ''}"


def _last_report(end: Ended) -> ErrorReport | None:
    """What a worker command said at its end, if it said anything."""
    try:
        return loads(ErrorReport, end.message)
    except ValueError:
        return None


def _name(pod: Object | None) -> str:
    return "its pod" if pod is None else f"pod {pod['metadata']['name']}"
