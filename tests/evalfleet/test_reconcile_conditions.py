"""Conditions: transitions move only with the status, abnormal ones end by themselves."""

from evalfleet.reconcile.conditions import false, find, merge, status_of, true, unknown

EARLY, LATE = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"


def test_the_transition_time_moves_only_when_the_status_does() -> None:
    before = merge([], [false("Planned", "Planning", "on its way")], 1, EARLY)
    same = merge(before, [false("Planned", "WaitingForNode", "no node yet")], 2, LATE)
    moved = merge(same, [true("Planned", "Planned", "done")], 2, LATE)
    assert [c[0]["lastTransitionTime"] for c in (before, same, moved)] == [EARLY, EARLY, LATE]
    assert same[0]["reason"] == "WaitingForNode"
    assert same[0]["observedGeneration"] == 2


def test_conditions_that_are_not_stated_stay_and_abnormal_ones_go() -> None:
    before = merge([], [true("Accepted", "Accepted", ""), true("Suspended", "Suspended", "")], 1, EARLY)
    after = merge(before, [unknown("Admitted", "Deciding", "")], 1, LATE)
    assert [c["type"] for c in after] == ["Accepted", "Admitted"]
    assert status_of(after, "Suspended") == "Unknown"
    assert find(after, "Admitted") is not None


def test_what_nobody_stated_speaks_of_the_generation_it_spoke_of() -> None:
    before = merge([], [true("Accepted", "Accepted", ""), true("OnTime", "OnTime", "")], 1, EARLY)
    after = merge(before, [unknown("Admitted", "Deciding", "")], 2, LATE)
    assert {c["type"]: c["observedGeneration"] for c in after} == {"Accepted": 1, "Admitted": 2}


def test_conditions_of_somebody_else_stay_as_far_as_there_is_room_and_never_displace_ours() -> None:
    foreign = [{**merge([], [true("x", "X", "")], 1, EARLY)[0], "type": f"Foreign{n:02}"} for n in range(16)]
    after = merge(foreign, [true("Accepted", "Accepted", ""), true("ScalingActive", "Active", "")], 1, LATE)
    assert [c["type"] for c in after[:3]] == ["Accepted", "ScalingActive", "Foreign00"]
    assert len(after) == 16


def test_conditions_have_one_order_and_bounded_messages() -> None:
    stated = [true("Failed", "X", "m" * 9000), false("Ready", "X", ""), true("Accepted", "X", "")]
    merged = merge([], stated, 1, EARLY)
    assert [c["type"] for c in merged] == ["Ready", "Accepted", "Failed"]
    assert max(len(c["message"]) for c in merged) == 2000
