"""Which changes of conditions are announced: a Warning is what waits for a person or breaks a promise. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet.reconcile.conditions import NOT_REACHED, Condition, find

SUMMARIES = frozenset({"Ready", "Reconciling", "ScalingLimited"})
"""Conditions that repeat the others, or come and go with the work."""
FOR_A_PERSON = frozenset(
    {
        "BudgetExhausted",
        "BudgetTooSmall",
        "ClaimMissing",
        "DeadlineInfeasible",
        "InvalidSpec",
        "LedgerUnreadable",
        "LedgerUnwritable",
        "NoPoolAllowed",
        "ObjectRefused",
        "PodConfigInvalid",
        "SecretMissing",
        "StatusRefused",
        "StoreUnavailable",
        "WaitingForImage",
    }
)
"""Reasons of waiting that somebody has to end."""
BEST_EFFORT = "BestEffort"
"""Reason of Admitted for a job whose deadline nothing guarantees; read back by the next decision."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Event: Normal or Warning, with reason and message."""

    kind: str
    reason: str
    message: str


def changes(before: Iterable[Mapping[str, Any]], stated: Iterable[Condition]) -> tuple[Condition, ...]:
    """Conditions with another status or reason than before; what had no turn says nothing new."""
    old = {str(c.get("type")): (c.get("status"), c.get("reason")) for c in before}
    news = (c for c in stated if c.type not in SUMMARIES and c.reason != NOT_REACHED)
    return tuple(c for c in news if old.get(c.type) != (c.status, c.reason))


def announcements(before: Iterable[Mapping[str, Any]], changed: Iterable[Condition]) -> tuple[Announcement, ...]:
    """One Event for each reason and message, whatever number of conditions says it; the graver kind wins."""
    known = list(before)
    said: dict[tuple[str, str], Announcement] = {}
    for condition in changed:
        words = (condition.reason, condition.message)
        lost = _withdrawn(condition, find(known, condition.type))
        kind = "Warning" if _is_trouble(condition) or (condition.reason == BEST_EFFORT and lost) else "Normal"
        if words not in said or lost or (kind, said[words].kind) == ("Warning", "Normal"):
            said[words] = Announcement(kind, condition.reason, lost + condition.message)
    return tuple(said.values())


def _is_trouble(condition: Condition) -> bool:
    if condition.status == "True":
        return condition.type in ("Failed", "Stalled")
    refused = condition.status == "False" and condition.type in ("Accepted", "OnTime", "AbleToScale")
    return refused or condition.reason in FOR_A_PERSON


def _withdrawn(condition: Condition, before: Mapping[str, Any] | None) -> str:
    """What a job has lost that was admitted; empty when nothing."""
    if condition.type != "Admitted" or before is None or before["status"] != "True":
        return ""
    if condition.status == "False":
        return "not admitted any more: "
    kept = condition.reason != BEST_EFFORT or before["reason"] == BEST_EFFORT
    return "" if kept else "the promise to keep the deadline is withdrawn: "
