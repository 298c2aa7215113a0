"""The first column of `kubectl get`: in a word or two what an object does or waits for. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from evalfleet import limits
from evalfleet.reconcile.conditions import Condition
from evalfleet.reconcile.decision import Decision

WORDS = {
    "Accepted": "Queued",
    "Deciding": "Queued",
    "Planned": "Queued",
    "Resumed": "Queued",
    "WaitingForAdmission": "Queued",
    "WaitingForPod": "Starting",
}
"""Reasons of `Ready` whose word is another."""
DecisionT = TypeVar("DecisionT", bound=Decision)


def in_words(stated: Iterable[Condition], percent: int = 0) -> str:
    """The word for what the conditions state; `percent` of the work is done."""
    known = {condition.type: condition for condition in stated}
    ready = known.get("Ready")
    for kind in ("Failed", "Stalled"):
        if kind in known and known[kind].status == "True":
            return f"{kind}: {known[kind].reason}"[: limits.STATE]
    if ready is None:
        return ""
    able = known.get("AbleToScale")
    if able is not None and able.status == "False":
        return able.reason[: limits.STATE]
    if ready.reason == "Scoring":
        return f"Scoring {percent} %"
    return WORDS.get(ready.reason, ready.reason)[: limits.STATE]


def with_state(decision: DecisionT, percent: int = 0) -> DecisionT:
    """The decision with its word in the status."""
    word = in_words(decision.conditions, percent)
    return replace(decision, status={**decision.status, "state": word}) if word else decision
