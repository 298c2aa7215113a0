"""How an EvaluationJob ends: the conditions of success and of failure, the same from every step."""

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from evalfleet.reconcile.conditions import Condition, false, true
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.steps import Step

NEEDS_A_PERSON = frozenset(
    {
        "BudgetExhausted",
        "BudgetTooSmall",
        "DeadlineInfeasible",
        "InvalidSpec",
        "LedgerUnreadable",
        "LedgerUnwritable",
        "NoPoolAllowed",
        "NotSupported",
        "ObjectRefused",
        "StatusRefused",
    }
)
"""Reasons that waiting alone is not expected to mend."""


ESTIMATES = ("estimatedCompletionTime", "estimatedLow", "estimatedHigh")
"""Members of `status.progress` that a job has only while somebody works on it."""


def failed(reason: str, message: str, state: JobState, status: dict[str, Any] | None = None) -> Step:
    """The job has failed for good."""
    return Step(
        conditions=(
            false("Ready", reason, message),
            false("Reconciling", reason, message),
            false("Succeeded", reason, message),
            false("WorkersReady", reason, "no worker is kept: the job has failed"),
            true("Failed", reason, message),
            true("Stalled", reason, message),
        ),
        status=_last(state, status or {}),
        halt=True,
    )


def succeeded(message: str, state: JobState, status: dict[str, Any]) -> Step:
    """The job has succeeded."""
    return Step(
        conditions=(
            true("Ready", "Succeeded", message),
            false("Reconciling", "Succeeded", message),
            false("WorkersReady", "Complete", "no worker is needed any more"),
            true("Succeeded", "Complete", message),
        ),
        status=_last(state, status),
        halt=True,
    )


def _last(state: JobState, status: dict[str, Any]) -> dict[str, Any]:
    """The last status: whatever workers are left are on their way out."""
    none_left = dict.fromkeys(("desired", "ready", "spot", "onDemand"), 0)
    workers = {**(status.get("workers") or {}), **none_left}
    return {"completionTime": stamp(state.now), **status, "workers": workers}


def waiting(reason: str, message: str) -> tuple[Condition, ...]:
    """Conditions of a job that is on its way."""
    return (false("Ready", reason, message), true("Reconciling", reason, message))


def held(reason: str, message: str, *, stalled: bool = False) -> tuple[Condition, ...]:
    """Conditions of a job that is held back: stalled where waiting mends nothing, else on its way (never both)."""
    if reason not in NEEDS_A_PERSON and not stalled:
        return waiting(reason, message)
    conditions = (false("Ready", reason, message), false("Reconciling", reason, message))
    return (*conditions, true("Stalled", reason, message))


def stamp(moment: datetime) -> str:
    """RFC 3339, whole seconds, in UTC where the calendar reaches it (the year 1 in Asia begins before it)."""
    with suppress(OverflowError):
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
