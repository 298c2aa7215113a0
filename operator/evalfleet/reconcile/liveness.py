"""Is this pod of ours alive? One verdict for worker, plan and finish pods, from what the API server shows. Pure.

Times come from the API server and the scheduler: when a pod was created, bound, or is to be deleted. What a node writes
is believed up to the server's now: a clock that is ahead neither bills nor delays anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.pod_reasons import WORKER, Reason, Whose, container_states, scheduling_reason, waiting_reason
from evalfleet_worker.protocol import ErrorReport, ExitCode, loads

Object = Mapping[str, Any]
LOST_REASONS = frozenset({"ContainerStatusUnknown"})
DISRUPTIONS = {
    "TerminationByKubelet": "Evicted",
    "DeletionByTaintManager": "NodeLost",
    "DeletionByPodGC": "NodeLost",
    "NodeGone": "NodeLost",
    "EvictionByEvictionAPI": "Drained",
    "PreemptionByScheduler": "Preempted",
}
ELSEWHERE = frozenset({int(ExitCode.UNSUITABLE), int(ExitCode.BROKEN_WORKER)})
"""Exit codes by which a worker says that its machine is of no use to it."""
THROWN_OUT = frozenset({"Evicted", "Rejected", "Lost", "Unsuitable"})
"""Causes of an end on a machine that lives, and would do the same again."""
TAKEN = {
    "Evicted": "its kubelet evicted it",
    "NodeLost": "its machine is gone or does not answer",
    "Drained": "its node is drained",
    "Preempted": "a pod of higher priority took its place",
    "Reclaimed": "its machine is taken away",
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a pod may wait for its node, take to start on it, and say nothing while it runs [s]."""

    node_seconds: float
    start_seconds: float
    silence_seconds: float


FOREVER = Patience(*(10.0 * 365 * 86400,) * 3)
"""For those who want the reasons alone."""


@dataclass(frozen=True, slots=True)
class Healthy:
    """The worker runs."""


@dataclass(frozen=True, slots=True)
class NoNode:
    """No node yet; past `until` its pool has failed to give one."""

    until: datetime
    why: Reason


@dataclass(frozen=True, slots=True)
class Starting:
    """It has a node and does not run yet; past `until` it is tried elsewhere."""

    until: datetime
    why: Reason


@dataclass(frozen=True, slots=True)
class Held:
    """Another controller (a queue, a gate) holds it back: it keeps its place, however long that takes."""

    why: Reason


@dataclass(frozen=True, slots=True)
class Broken:
    """It cannot run as it is, here or (`Whose.JOB`) anywhere."""

    reason: str
    whose: Whose
    message: str


@dataclass(frozen=True, slots=True)
class Silent:
    """It runs and neither answers nor moves."""

    since: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """Infrastructure ended it: never its own failure. `cause`: one of `TAKEN`, Rejected, Lost, Stuck or Unsuitable."""

    cause: str
    message: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The worker has ended by itself, whatever other containers still do."""

    exit_code: int
    reason: str
    message: str
    at: datetime


Verdict = Healthy | NoNode | Starting | Held | Broken | Silent | Gone | Ended


def judge(pod: Object, now: datetime, patience: Patience, heard: datetime | None = None) -> Verdict:
    """The verdict on one pod.

    Args:
        pod: as the API server shows it.
        now: the API server's time.
        patience: how long it may take.
        heard: when it last gave a sign of life (its progress moved), None = nobody listens.
    """
    gone = _gone(pod, now)
    if gone is not None:
        return gone
    ended = worker_end(pod, now)
    if ended is not None:
        return ended
    if not (pod.get("spec") or {}).get("nodeName"):
        return _without_node(pod, now, patience)
    failed_init = _failed_init(pod)
    if failed_init is not None:
        return failed_init
    if any(name == WORKER for name, _, _ in container_states(pod, "running")):
        silent = heard is not None and now - heard > timedelta(seconds=patience.silence_seconds)
        return Silent(heard) if silent and heard is not None else Healthy()
    why = waiting_reason(pod)
    if why.whose is Whose.JOB:
        return Broken(why.reason, why.whose, why.message)
    since = bound_at(pod) or _created(pod, now)
    return Starting(not_after(now, since) + timedelta(seconds=patience.start_seconds), why)


def worker_end(pod: Object, now: datetime) -> Ended | None:
    """The end of the container `worker`, None while it has none."""
    for name, _, state in container_states(pod, "terminated"):
        if name == WORKER:
            at = not_after(now, moment(state.get("finishedAt")) or now)
            why = (str(state.get("reason") or ""), str(state.get("message") or ""))
            return Ended(int(state.get("exitCode") or 0), *why, at)
    return None


def _failed_init(pod: Object) -> Broken | None:
    """A pod that ended because a container before the worker failed: somebody put it there, for this job alone."""
    if (pod.get("status") or {}).get("phase") != "Failed":
        return None
    for name, _, state in container_states(pod, "terminated"):
        if name != WORKER and state.get("exitCode"):
            said = f": {str(state.get('message')).strip()[-300:]}" if state.get("message") else ""
            message = f"container {name} failed before the worker began (exit code {state['exitCode']}){said}"
            return Broken("PodConfigInvalid", Whose.JOB, message)
    return None


def alive_beside(pod: Object) -> tuple[str, ...]:
    """Names of the containers that keep a pod alive though its worker has ended."""
    return tuple(name for name, _, _ in container_states(pod, "running") if name != WORKER)


def is_disrupted(pod: Object) -> bool:
    """Whether the pod was taken away (reclaimed, drained, preempted, evicted): never a failure."""
    return _disruption(pod) is not None


def bound_at(pod: Object) -> datetime | None:
    """When the scheduler bound the pod to a node, None before that."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            return moment(condition.get("lastTransitionTime"))
    return None


def unreachable_since(pod: Object) -> datetime | None:
    """When the node of a running pod fell silent, None while it answers.

    The node controller makes such a pod not Ready; the kubelet, which says that its containers are, cannot object.
    """
    status = pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    if status.get("phase") != "Running" or not containers or not all(c.get("ready") for c in containers):
        return None
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Ready" and condition.get("status") == "False":
            return moment(condition.get("lastTransitionTime"))
    return None


def moment(text: object) -> datetime | None:
    """An RFC 3339 time, None for nothing."""
    return datetime.fromisoformat(str(text)) if text else None


def not_after(now: datetime, stamped: datetime) -> datetime:
    """A node's time as far as it can be true: nothing lies after the API server's now."""
    return min(now, stamped)


def clock_ahead(pod: Object, now: datetime) -> timedelta:
    """How far the clock of a pod's node is ahead of the API server's, as far as its stamps show; 0 within tolerance."""
    keys = (("running", "startedAt"), ("terminated", "startedAt"), ("terminated", "finishedAt"))
    stamps = (moment(state.get(key)) for kind, key in keys for _, _, state in container_states(pod, kind))
    ahead = max((stamp - now for stamp in stamps if stamp is not None), default=timedelta(0))
    return ahead if ahead.total_seconds() > limits.CLOCK_AHEAD_SECONDS else timedelta(0)


def _gone(pod: Object, now: datetime) -> Gone | None:
    disruption = _disruption(pod)
    status = pod.get("status") or {}
    if disruption is not None:
        cause = DISRUPTIONS.get(str(disruption.get("reason")), "Reclaimed")
        said = str(disruption.get("message") or status.get("message") or "").strip()
        return Gone(cause, f"{TAKEN[cause]}: {said}" if said else TAKEN[cause])
    due = moment(pod["metadata"].get("deletionTimestamp"))
    over = status.get("phase") in ("Succeeded", "Failed")
    if due is not None and not over and (now - due).total_seconds() > limits.DELETION_SECONDS:
        return Gone("Stuck", "it is to be deleted and its kubelet does not end it: its machine does not answer")
    ended = worker_end(pod, now)
    if ended is not None and ended.reason in LOST_REASONS:
        return Gone("Lost", f"its container is lost: {ended.message or ended.reason}")
    if ended is not None and ended.exit_code in ELSEWHERE:
        return Gone("Unsuitable", f"it cannot compute on its machine: {_report(ended)}")
    if status.get("phase") == "Failed" and ended is None and _failed_init(pod) is None:
        reason = str(status.get("reason") or "")
        said = ": ".join(part for part in (reason, str(status.get("message") or "")) if part)
        cause = "Evicted" if reason == "Evicted" else "Rejected"
        return Gone(
            cause, f"its kubelet {'evicted' if cause == 'Evicted' else 'rejected'} it: {said or 'without a word'}"
        )
    if status.get("phase") == "Unknown":
        return Gone("NodeLost", TAKEN["NodeLost"])
    return None


def _report(ended: Ended) -> str:
    """What a worker said at its end."""
    try:
        report = loads(ErrorReport, ended.message)
    except ValueError:
        return ended.message.strip()[-300:] or f"exit code {ended.exit_code}"
    return f"{report.reason}: {report.message}"


def _disruption(pod: Object) -> Object | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return condition  # type: ignore[no-any-return]
    return None


def _without_node(pod: Object, now: datetime, patience: Patience) -> NoNode | Held | Broken:
    why = scheduling_reason(pod)
    if why.whose is Whose.OTHER:
        return Held(why)
    if why.whose is Whose.JOB:
        return Broken(why.reason, why.whose, why.message)
    return NoNode(_created(pod, now) + timedelta(seconds=patience.node_seconds), why)


def _created(pod: Object, now: datetime) -> datetime:
    return moment(pod["metadata"].get("creationTimestamp")) or now
