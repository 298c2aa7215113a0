"""Step 2: the size of the evaluation, from a one-pod CPU Job that may be run again at any time."""

from evalfleet.manifests.jobs import plan_job, spec_config_map
from evalfleet.reconcile.children import ANOTHER, HOPELESS, Phase
from evalfleet.reconcile.conditions import false, true, unknown
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.job.pods import job_spec, pod_shape, waiting_message
from evalfleet.reconcile.job.state import JobState, plan_status, removal
from evalfleet.reconcile.job.terminal import failed, waiting
from evalfleet.reconcile.redact import redacted
from evalfleet.reconcile.steps import Step
from evalfleet_worker.protocol import ErrorReport, PlanReport, loads


def plan(state: JobState) -> Step:
    """State Planned: create the plan Job, wait for it, or read its report."""
    if state.is_true("Planned") and "plan" in state.status:
        return Step()
    match state.plan.phase:
        case Phase.MISSING:
            return _start(state)
        case Phase.SUCCEEDED:
            return _planned(state)
        case Phase.FAILED:
            return _failed(state)
        case Phase.WAITING if state.plan.reason in HOPELESS:  # the next attempt would need as much memory
            return _failed(state)
        case _:
            return _wait(state)


def _start(state: JobState) -> Step:
    assert state.job is not None
    objects = (spec_config_map(state.identity, job_spec(state)), plan_job(state.identity, pod_shape(state)))
    message = "planning: datasets are read and tokenized on a CPU"
    return Step(
        conditions=(false("Planned", "Planning", message), *waiting("Planning", message)),
        actions=tuple(Create(body) for body in objects),
        halt=True,
    )


def _planned(state: JobState) -> Step:
    """Adopt the report; a lost one (pod removed) is asked for again: planning adopts the existing plan."""
    try:
        report = loads(PlanReport, state.plan.termination or "")
    except ValueError as error:
        if state.plan.termination:
            why = unreadable("plan", error)
            ended = failed(*why, state)
            return Step((false("Planned", *why), *ended.conditions), ended.status, halt=True)
        message = "the plan's report was lost with its pod: planning again adopts the existing plan"
        again = removal(state.identity, state.plan)
        return Step(
            (false("Planned", "PlanReportLost", message), *waiting("Planning", message)), actions=(again,), halt=True
        )
    message = (
        f"{report.samples} samples, {report.requests} requests, {report.tokens} tokens in {report.units} units;"
        f" about {report.predicted_seconds:.0f} s of one worker"
    )
    reason = "AllCached" if report.units == 0 else "Planned"
    return Step(
        conditions=(true("Planned", reason, message), *waiting("Planned", "planned; waiting for workers")),
        status={"plan": plan_status(report)},
        halt=True,
        requeue_seconds=0.0,
    )


def _failed(state: JobState) -> Step:
    reason, message = failure_reason(state.plan.termination, state.plan.reason, state.plan.message)
    ended = failed(reason, message, state)
    return Step((false("Planned", reason, message), *ended.conditions), ended.status, halt=True)


def _wait(state: JobState) -> Step:
    child = state.plan
    if child.phase is Phase.WAITING:
        message = f"the plan pod is not running yet: {waiting_message(state, child)}"
        return Step((unknown("Planned", child.reason, message), *waiting(child.reason, message)), halt=True)
    message = "planning: datasets are read and tokenized on a CPU"
    return Step((false("Planned", "Planning", message), *waiting("Planning", message)), halt=True)


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
