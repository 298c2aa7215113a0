"""Who is asked for progress: every namespace has its turn, and the silent are asked less often."""

import pytest

from evalfleet import limits
from evalfleet.controller.turns import Turns


def test_namespaces_take_turns_whatever_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROGRESS_ROUND", 4)
    pods = {**{f"big-{n}": "big" for n in range(9)}, "small-0": "small", "small-1": "small"}
    turns, seen = Turns(), []
    for now in range(4):
        asked = turns.next(pods, float(now))
        turns.took_place(asked, set(pods), float(now))
        seen.append(asked)
        assert {"small-0", "small-1"} <= set(asked)
    assert {uid for asked in seen for uid in asked} >= {f"big-{n}" for n in range(8)}


def test_who_stays_silent_is_asked_less_often_and_at_once_again_when_it_answers() -> None:
    turns, asked_at = Turns(), []
    for now in range(200):
        asked = turns.next({"a": "ns"}, float(now))
        turns.took_place(asked, (), float(now))
        asked_at += [now] * len(asked)
    assert asked_at[:6] == [0, 1, 3, 7, 15, 31]
    assert asked_at[-1] - asked_at[-2] == limits.PROGRESS_PAUSE_MOST_SECONDS
    turns.took_place(["a"], {"a"}, 200.0)
    assert turns.next({"a": "ns"}, 200.1) == ["a"]


def test_pods_that_are_gone_are_forgotten() -> None:
    turns = Turns()
    turns.took_place(turns.next({"a": "ns"}, 0.0), (), 0.0)
    assert turns.next({}, 1.0) == []
    assert (turns.asked, turns.silent) == ({}, {})
