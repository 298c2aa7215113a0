"""What is announced of a condition that changed, and how gravely."""

import pytest

from evalfleet.reconcile.announce import announcements, changes
from evalfleet.reconcile.conditions import Condition, false, merge, true, unknown

EARLY = "2026-01-01T00:00:00Z"


def told(before: list[Condition], *after: Condition) -> list[tuple[str, str, str]]:
    known = merge([], before, 1, EARLY)
    return [(a.kind, a.reason, a.message) for a in announcements(known, changes(known, after))]


def test_a_failure_that_several_conditions_repeat_is_one_warning() -> None:
    words = ("OutOfMemory", "killed")
    after = (false("Ready", *words), false("Succeeded", *words), true("Failed", *words), true("Stalled", *words))
    assert told([], *after) == [("Warning", "OutOfMemory", "killed")]
    assert told(list(after), *after) == []


def test_a_promise_that_becomes_best_effort_is_withdrawn_in_words() -> None:
    (event,) = told([true("Admitted", "Admitted", "promised")], true("Admitted", "BestEffort", "too late"))
    assert event == ("Warning", "BestEffort", "the promise to keep the deadline is withdrawn: too late")
    assert told([true("Admitted", "BestEffort", "m")], true("Admitted", "BestEffort", "later")) == []
    assert told([], true("Admitted", "BestEffort", "m"))[0][0] == "Normal"
    gone = told([true("Admitted", "Admitted", "promised")], false("Admitted", "WaitingForQuota", "full"))
    assert gone == [("Normal", "WaitingForQuota", "not admitted any more: full")]


@pytest.mark.parametrize(
    ("condition", "kind"),
    [
        (false("Accepted", "StoreMissing", "m"), "Warning"),
        (unknown("Planned", "SecretMissing", "m"), "Warning"),
        (false("OnTime", "DeadlineMissed", "m"), "Warning"),
        (false("AbleToScale", "WaitingForQuota", "m"), "Warning"),
        (true("Stalled", "LedgerUnreadable", "m"), "Warning"),
        (false("WorkersReady", "WaitingForNode", "m"), "Normal"),
        (true("Suspended", "Suspended", "m"), "Normal"),
        (unknown("OnTime", "DeadlineUncertain", "m"), "Normal"),
    ],
)
def test_what_waits_for_a_person_is_a_warning(condition: Condition, kind: str) -> None:
    assert [event[0] for event in told([], condition)] == [kind]


def test_what_had_no_turn_and_what_repeats_others_is_not_announced() -> None:
    assert told([], unknown("Planned", "NotReached", "m"), true("Ready", "Succeeded", "m")) == []
