"""Is the deadline in danger? Stated before any step can halt: a deadline passes whatever a job waits for."""

from evalfleet.api.scalingpolicy import PolicySla
from evalfleet.reconcile.conditions import Condition, false, true, unknown
from evalfleet.reconcile.job.deadline import deadline_of
from evalfleet.reconcile.job.state import Eta, JobState, all_scored
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.steps import Step

AT_RISK = 0.5
"""Below it the end is rather expected after the deadline."""


def on_time(state: JobState) -> Step:
    """State OnTime by the probability of the end before the deadline; nothing without a deadline."""
    deadline = deadline_of(state)
    if deadline is None:
        return Step()
    left = (deadline - state.now).total_seconds()
    if left <= 0:
        return Step((false("OnTime", "DeadlineMissed", f"the deadline {stamp(deadline)} has passed"),))
    return Step((_ahead(state, f"deadline {stamp(deadline)}"),), requeue_seconds=left)


def _ahead(state: JobState, deadline: str) -> Condition:
    if state.is_planned and all_scored(state):
        return true("OnTime", "OnTime", f"everything is scored; {deadline}")
    if state.eta is None:
        return unknown("OnTime", "NotForeseen", f"the end cannot be foreseen; {deadline}")
    return _foreseen(state, state.eta, deadline)


def _foreseen(state: JobState, eta: Eta, deadline: str) -> Condition:
    expected = f"expected at {stamp(eta.expected)}, {deadline}"
    if eta.in_time is None:
        return unknown("OnTime", "NotForeseen", expected)
    words = f"{expected}, kept with {min(99, int(100 * eta.in_time))} % probability"
    if 100 * eta.in_time >= _confidence_percent(state):
        return true("OnTime", "OnTime", words)
    if eta.in_time < AT_RISK:
        return false("OnTime", "DeadlineAtRisk", words)
    return unknown("OnTime", "DeadlineUncertain", words)


def _confidence_percent(state: JobState) -> int:
    sla = state.policy.spec.sla if state.policy is not None else None
    return (sla or PolicySla()).confidence_percent
