"""Step 2: the size of the evaluation, from a one-pod CPU Job that may be run again at any time."""

import json

from evalfleet import limits
from evalfleet.manifests.images import pinned_image
from evalfleet.manifests.jobs import plan_job
from evalfleet.reconcile.children import ANOTHER, HOPELESS, Child, Phase
from evalfleet.reconcile.conditions import false, unknown
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.job.attempts import (
    Attempt,
    again,
    fails_always,
    fault,
    plan_attempt,
    says_nothing,
    stalls,
    told,
)
from evalfleet.reconcile.job.known import planned_condition
from evalfleet.reconcile.job.pods import pod_shape, waiting_message, whereabouts
from evalfleet.reconcile.job.state import JobState, plan_status, removal
from evalfleet.reconcile.job.terminal import failed, held, waiting
from evalfleet.reconcile.pod_reasons import WORKER
from evalfleet.reconcile.redact import redacted
from evalfleet.reconcile.steps import Step
from evalfleet_worker.protocol import PROTOCOL_VERSION, ErrorReport, PlanReport, loads


def plan(state: JobState) -> Step:
    """State Planned: create the plan Job, wait for it, or read its report."""
    if state.is_planned:
        return _release(state)
    attempt = plan_attempt(state)
    why = fault(attempt, state.now)
    if state.away is not None and (why is not None or state.plan.phase is Phase.MISSING):
        return Step((false("Planned", *state.away),), halt=True)
    if why is not None:
        return _again(state, attempt, why.reason, f"the plan pod: {why.message}")
    match state.plan.phase:
        case Phase.MISSING:
            message = "planning: datasets are read and tokenized on a CPU"
            return _again(state, attempt, "Planning", message) if attempt.number else _start(state, attempt, message)
        case Phase.SUCCEEDED:
            return _planned(state, attempt)
        case Phase.FAILED:
            return _failed(state)
        case Phase.WAITING if state.plan.reason in HOPELESS or fails_always(attempt, state.now):
            return _failed(state)  # the next attempt would need as much memory, or fail as well
        case _:
            return _wait(state)


def _release(state: JobState) -> Step:
    """A planned run: its plan Job makes room where a quota on Jobs leaves none for a worker."""
    waits = state.admission is not None and state.admission.reason == "WaitingForQuota" and not state.admission.admitted
    if not waits or state.plan.phase is not Phase.SUCCEEDED:
        return Step()
    return Step(actions=(removal(state.identity, state.plan),))


def _start(state: JobState, attempt: Attempt, message: str, reason: str = "Planning") -> Step:
    assert state.job is not None
    job = plan_job(state.identity, pod_shape(state), attempt.number + 1, attempt.node)
    return Step(
        conditions=(false("Planned", reason, message), *waiting(reason, message)),
        actions=(Create(job),),
        halt=True,
    )


def _again(state: JobState, attempt: Attempt, reason: str, message: str) -> Step:
    """Another attempt, as soon as it is due; planning adopts what an earlier one has left."""
    said, seconds = again(attempt, message, state.now), attempt.wait_seconds(state.now)
    if seconds == 0:
        return _start(state, attempt, said, reason)
    return Step((false("Planned", reason, said), *told(attempt, reason, said)), halt=True, requeue_seconds=seconds)


def _planned(state: JobState, attempt: Attempt) -> Step:
    """Adopt the report; a lost one (pod removed) is asked for again: planning adopts the existing plan."""
    other = other_protocol(state.plan)
    if other is not None:
        return Step((unknown("Planned", *other), *waiting(*other)), halt=True)
    try:
        report = loads(PlanReport, state.plan.termination or "")
    except ValueError as error:
        if says_nothing(attempt):
            why = unreadable("plan", error)
            ended = failed(*why, state)
            return Step((false("Planned", *why), *ended.conditions), ended.status, halt=True)
        return _again(state, attempt, "PlanReportLost", "the plan's report was lost with its pod")
    size = plan_status(report)
    return Step(
        conditions=(planned_condition(size), *waiting("Planned", "planned; waiting for workers")),
        status={"plan": {**size, **_image(state)}},
        halt=True,
        requeue_seconds=0.0,
    )


def _image(state: JobState) -> dict[str, str]:
    """The very image that planned the run, as its kubelet names it: later pods use it."""
    statuses = ((state.plan.pod or {}).get("status") or {}).get("containerStatuses") or []
    image_id = next((str(entry.get("imageID") or "") for entry in statuses if entry.get("name") == WORKER), "")
    pinned = pinned_image(pod_shape(state).image, image_id)
    return {} if pinned is None else {"image": pinned}


def _failed(state: JobState) -> Step:
    reason, message = failure_reason(state.plan.termination, state.plan.reason, state.plan.message)
    ended = failed(reason, message, state)
    return Step((false("Planned", reason, message), *ended.conditions), ended.status, halt=True)


def _wait(state: JobState) -> Step:
    child = state.plan
    if child.phase is Phase.WAITING:
        message = f"the plan does not run yet ({whereabouts(child)}): {waiting_message(state, child)}"
        words = held(child.reason, message, stalled=stalls(child, state.now))
        return Step(
            (unknown("Planned", child.reason, message), *words), halt=True, requeue_seconds=limits.RUNNING_SECONDS
        )
    message = "planning: datasets are read and tokenized on a CPU"
    return Step((false("Planned", "Planning", message), *waiting("Planning", message)), halt=True)


def other_protocol(child: Child) -> tuple[str, str] | None:
    """Reason and sentence for a report of another protocol version: an operator that knows it goes on."""
    try:
        version = json.loads(child.termination or "").get("version", PROTOCOL_VERSION)
    except (ValueError, AttributeError):
        return None
    if version == PROTOCOL_VERSION:
        return None
    message = f"{child.name} reports in protocol version {version}, this operator knows {PROTOCOL_VERSION}"
    return "ProtocolUnknown", f"{message}: an operator of its version goes on"


def unreadable(role: str, error: ValueError) -> tuple[str, str]:
    """Reason and message for a report that is there and makes no sense: the same pod would say the same again."""
    advice = "is the worker image of the operator's own version?"
    return "ReportUnreadable", f"the {role} pod's report cannot be read: {error}; {advice}"


def failure_reason(termination: str | None, reason: str, message: str) -> tuple[str, str]:
    """What a failed pod said itself, else what Kubernetes says about it."""
    message = message.removesuffix(ANOTHER)
    if reason in HOPELESS:
        return reason, message
    try:
        report = loads(ErrorReport, termination or "")
    except ValueError:
        tail = f": {termination.strip()[-500:]}" if termination and termination.strip() else ""
        return reason, redacted(message + tail)
    return str(report.reason), redacted(report.message)
