"""Step 2: the size of the evaluation, from a one-pod CPU Job that may be run again at any time."""

from evalfleet.manifests.jobs import plan_job, spec_config_map
from evalfleet.reconcile.children import ANOTHER, HOPELESS, Phase
from evalfleet.reconcile.conditions import false, true, unknown
from evalfleet.reconcile.decision import Create, Delete
from evalfleet.reconcile.job.pods import job_spec, pod_shape, waiting_words
from evalfleet.reconcile.job.terminal import failed, waiting
from evalfleet.reconcile.job.world import World, plan_status
from evalfleet.reconcile.redact import redacted
from evalfleet.reconcile.steps import Step
from evalfleet_worker.protocol import ErrorReport, PlanReport, loads


def plan(world: World) -> Step:
    """State Planned: create the plan Job, wait for it, or read its report."""
    if world.is_true("Planned") and "plan" in world.status:
        return Step()
    match world.plan.phase:
        case Phase.MISSING:
            return _start(world)
        case Phase.SUCCEEDED:
            return _planned(world)
        case Phase.FAILED:
            return _failed(world)
        case Phase.WAITING if world.plan.reason in HOPELESS:  # the next attempt would need as much memory
            return _failed(world)
        case _:
            return _wait(world)


def _start(world: World) -> Step:
    assert world.job is not None
    objects = (spec_config_map(world.identity, job_spec(world)), plan_job(world.identity, pod_shape(world)))
    message = "planning: datasets are read and tokenized on a CPU"
    return Step(
        conditions=(false("Planned", "Planning", message), *waiting("Planning", message)),
        actions=tuple(Create(body) for body in objects),
        halt=True,
    )


def _planned(world: World) -> Step:
    """Adopt the report; a lost one (pod removed) is asked for again: planning adopts the existing plan."""
    try:
        report = loads(PlanReport, world.plan.termination or "")
    except ValueError as error:
        if world.plan.termination:
            words = unreadable("plan", error)
            ended = failed(*words, world)
            return Step((false("Planned", *words), *ended.conditions), ended.status, halt=True)
        message = "the plan's report was lost with its pod: planning again adopts the existing plan"
        again = Delete("Job", world.identity.namespace, world.plan.name)
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


def _failed(world: World) -> Step:
    reason, message = failure_words(world.plan.termination, world.plan.reason, world.plan.message)
    ended = failed(reason, message, world)
    return Step((false("Planned", reason, message), *ended.conditions), ended.status, halt=True)


def _wait(world: World) -> Step:
    child = world.plan
    if child.phase is Phase.WAITING:
        message = f"the plan pod is not running yet: {waiting_words(world, child)}"
        return Step((unknown("Planned", child.reason, message), *waiting(child.reason, message)), halt=True)
    message = "planning: datasets are read and tokenized on a CPU"
    return Step((false("Planned", "Planning", message), *waiting("Planning", message)), halt=True)


def unreadable(role: str, error: ValueError) -> tuple[str, str]:
    """Reason and words for a report that is there and makes no sense: the same pod would say the same again."""
    advice = "is the worker image of the operator's own version?"
    return "ReportUnreadable", f"the {role} pod's report cannot be read: {error}; {advice}"


def failure_words(termination: str | None, reason: str, message: str) -> tuple[str, str]:
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
