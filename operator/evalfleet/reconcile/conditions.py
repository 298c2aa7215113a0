"""Conditions as values: set by type, `lastTransitionTime` moves only when `status` does. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet import limits

ORDER = (
    "Ready",
    "Reconciling",
    "Accepted",
    "Planned",
    "Admitted",
    "WorkersReady",
    "OnTime",
    "ProgressKnown",
    "Succeeded",
    "Failed",
    "Suspended",
    "Stalled",
    "RunOutdated",
)
ABNORMAL_TRUE = frozenset({"Failed", "Suspended", "Stalled", "RunOutdated"})
"""Present only while True."""
WITHDRAWN = ABNORMAL_TRUE | {"OnTime"}
"""Present only while stated: without a deadline nothing is on time or late."""
NOT_REACHED = "NotReached"
"""Reason of a condition whose step had no turn."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition as a reconcile step states it.

    Attributes:
        type: CamelCase type.
        status: True, False or Unknown as strings.
        reason: CamelCase reason.
        message: a sentence for people.
    """

    type: str
    status: str
    reason: str
    message: str


def true(kind: str, reason: str, message: str) -> Condition:
    """A condition that holds."""
    return Condition(kind, "True", reason, message)


def false(kind: str, reason: str, message: str) -> Condition:
    """A condition that does not hold."""
    return Condition(kind, "False", reason, message)


def unknown(kind: str, reason: str, message: str) -> Condition:
    """A condition that nobody can tell yet."""
    return Condition(kind, "Unknown", reason, message)


def merge(
    before: Iterable[Mapping[str, Any]], stated: Iterable[Condition], generation: int, now: str
) -> list[dict[str, Any]]:
    """The conditions of the new status: stated ones replace those of the same type; some end unless stated.

    What nobody stated stays as it was and speaks of the generation that it spoke of: `kubectl wait` passes over it.
    """
    old = {str(condition.get("type")): dict(condition) for condition in before}
    new = {condition.type: condition for condition in stated}
    merged = {kind: condition for kind, condition in old.items() if kind not in WITHDRAWN}
    for kind, condition in new.items():
        if kind in ABNORMAL_TRUE and condition.status != "True":
            merged.pop(kind, None)
            continue
        merged[kind] = _wire(condition, old.get(kind), generation, now)
    stated_or_known = {*new, *ORDER}
    ordered = sorted(merged.values(), key=lambda c: ORDER.index(c["type"]) if c["type"] in ORDER else len(ORDER))
    return sorted(ordered, key=lambda c: c["type"] not in stated_or_known)[: limits.CONDITIONS]


def status_of(conditions: Iterable[Mapping[str, Any]], kind: str) -> str:
    """The status of a type: True, False or Unknown (absent)."""
    return next((str(c.get("status")) for c in conditions if c.get("type") == kind), "Unknown")


def restated(conditions: Iterable[Mapping[str, Any]], *kinds: str) -> tuple[Condition, ...]:
    """What a status says of these types, to be said again."""
    found = (find(conditions, kind) for kind in kinds)
    return tuple(Condition(c["type"], c["status"], c["reason"], c["message"]) for c in found if c is not None)


def find(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """The condition of a type, if present."""
    return next((c for c in conditions if c.get("type") == kind), None)


def _wire(condition: Condition, before: Mapping[str, Any] | None, generation: int, now: str) -> dict[str, Any]:
    same_status = before is not None and before.get("status") == condition.status
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message[: limits.CONDITION_MESSAGE],
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and same_status else now,
        "observedGeneration": generation,
    }
