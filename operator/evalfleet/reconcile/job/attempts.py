"""Attempts of plan and finish: what the infrastructure ends is tried again without end, only less often. Pure.

An attempt is a Job of its own, so that one whose machine does not answer blocks nobody. When the next one may begin
follows from the number of the last one and from when it began: nothing has to be remembered but what the cluster shows.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from evalfleet import limits
from evalfleet.manifests.jobs import OWN_FAILURES
from evalfleet.reconcile.children import ANOTHER, Child, Object, Phase
from evalfleet.reconcile.conditions import Condition
from evalfleet.reconcile.decision import Delete
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import held, stamp
from evalfleet.reconcile.liveness import (
    THROWN_OUT,
    alive_beside,
    bound_at,
    clock_ahead,
    worker_end,
)
from evalfleet.reconcile.pod_reasons import Reason, Whose, request_of, resource_of
from evalfleet.reconcile.steps import Step


@dataclass(frozen=True, slots=True)
class Attempt:
    """The newest attempt of a step.

    Attributes:
        child: its Job.
        number: counted from 1; 0 = there was none.
        began: when it was created, None when there was none.
    """

    child: Child
    number: int = 0
    began: datetime | None = None

    @property
    def next_due(self) -> datetime | None:
        """When the next attempt may begin at the earliest; None = at once."""
        if self.number == 0 or self.began is None:
            return None
        pause = min(limits.ATTEMPT_PAUSE_SECONDS * 2.0 ** (min(self.number, 32) - 1), limits.LONGEST_PAUSE_SECONDS)
        return self.began + timedelta(seconds=pause)

    @property
    def node(self) -> tuple[str, ...]:
        """The machine that it came to: the next one goes elsewhere, if it can."""
        pod = self.child.pod
        name = "" if pod is None else str((pod.get("spec") or {}).get("nodeName") or "")
        return (name,) if name else ()

    @property
    def start_seconds(self) -> float:
        """How long its pod may take from its node to running."""
        doubled = limits.CPU_START_SECONDS * 2.0 ** (min(max(self.number, 1), 32) - 1)
        return min(doubled, limits.CPU_START_LONGEST_SECONDS)

    def wait_seconds(self, now: datetime) -> float:
        """How long the next attempt has to wait; 0 = it may begin."""
        return 0.0 if self.next_due is None else max(0.0, (self.next_due - now).total_seconds())


def plan_attempt(state: JobState) -> Attempt:
    """The newest attempt of the plan step."""
    return Attempt(state.plan, state.plan_attempt, state.begun.get("plan"))


def finish_attempt(state: JobState) -> Attempt:
    """The newest attempt of the finish step."""
    return Attempt(state.finish, state.finish_attempt, state.begun.get("finish"))


def supersede(state: JobState) -> Step:
    """Attempts whose place another one has taken go: theirs was a pass of its own."""
    namespace = state.identity.namespace
    return Step(actions=tuple(Delete("Job", namespace, name, uid) for name, uid in state.superseded.items()))


def again(attempt: Attempt, message: str, now: datetime) -> str:
    """What went wrong, what to do about it where that is known, and when it is tried again."""
    said, gone = message.removesuffix(ANOTHER), attempt.child.gone
    resource = resource_of(gone.message) if gone is not None and gone.cause in THROWN_OUT else None
    if resource is not None and attempt.number >= limits.SAME_RESOURCE:
        said += f"; raise {request_of(resource, 'planResources')}"
    if attempt.next_due is None or attempt.next_due <= now:
        return f"{said}; another attempt begins"
    return f"{said}; attempt {attempt.number + 1} begins at {stamp(attempt.next_due)}"


def told(attempt: Attempt, reason: str, message: str) -> tuple[Condition, ...]:
    """Conditions of a job between two attempts: on its way, and after many of them stalled as well as tried again."""
    return held(reason, message, stalled=attempt.number >= limits.ATTEMPTS_STALLED)


def says_nothing(attempt: Attempt) -> bool:
    """Whether its program gives no report that can be read: one that went with its pod is no word about the program."""
    silent = attempt.child.pod is not None and attempt.number >= limits.REPORTS_LOST
    return bool(attempt.child.termination) or silent


def fails_always(attempt: Attempt, now: datetime) -> bool:
    """Whether the program has failed by itself again and again, in pods whose Jobs would never say so."""
    return attempt.number >= limits.REPORTS_LOST and _fails_unheard(attempt.child, now)


def _fails_unheard(child: Child, now: datetime) -> bool:
    """Whether a worker failed whose Job waits: for another container, or for the clock of the node."""
    if child.phase is not Phase.WAITING or child.pod is None:
        return False
    return worker_end(child.pod, now) is not None and bool(alive_beside(child.pod) or clock_ahead(child.pod, now))


def stalls(child: Child, now: datetime) -> bool:
    """Whether somebody has to look: what the job's own objects lack is not there after a long time."""
    waited = 0.0 if child.created is None else (now - child.created).total_seconds()
    return child.whose is Whose.JOB and waited > limits.STALLED_SECONDS


def fault(attempt: Attempt, now: datetime) -> Reason | None:
    """Why an attempt is given up though its program did not fail; None when it is not."""
    child = attempt.child
    if child.gone is not None:
        return Reason(child.gone.cause, child.message)
    thrown_out = child.reason == "BackoffLimitExceeded" and child.failures <= OWN_FAILURES
    if child.phase is Phase.FAILED and thrown_out and child.exit_code is not None:
        return Reason("Retrying", child.message)  # the Job controller counts what kubelets rejected, too
    without_a_word = child.exit_code is None and child.termination is None and child.reason != "PodFailurePolicy"
    if child.phase is Phase.FAILED and without_a_word:
        return Reason("Lost", f"Job {child.name} ended and its pod is gone: {child.message}")
    if child.phase is not Phase.WAITING or child.pod is None:
        return None
    if child.whose is Whose.JOB and child.over:
        return Reason(child.reason, child.message)
    if _fails_unheard(child, now):
        return None if fails_always(attempt, now) else Reason(child.reason, child.message)
    return _late(attempt, child.pod, now)


def _late(attempt: Attempt, pod: Object, now: datetime) -> Reason | None:
    """Why a pod that has a node and does not start is tried elsewhere: not for what is missing everywhere."""
    child, bound = attempt.child, bound_at(pod)
    elsewhere = child.whose is not Whose.JOB or child.reason == "WaitingForImage"
    if bound is None or not elsewhere or worker_end(pod, now) is not None:
        return None
    if (now - bound).total_seconds() <= attempt.start_seconds:
        return None
    return Reason(child.reason, f"it did not start in {attempt.start_seconds:.0f} s: {child.message}")
