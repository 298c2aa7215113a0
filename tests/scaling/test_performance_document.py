"""A saved history comes back with the same answers, is small, and nothing damaged or hostile is taken for one."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_lab.synthetic.performance import make_world, runs
from evalfleet_scaling.performance.document import LARGEST_BYTES, InvalidHistoryError, dump, load
from evalfleet_scaling.performance.history import KEYS, RUNS, History, learn, learn_all
from evalfleet_scaling.performance.interface import LONGEST_NAME, FinishedRun, Key, Quantity, Work
from evalfleet_scaling.performance.predict import predictor


def some_runs(count=40, seed=3):
    return list(runs(make_world(seed), seed, count))


def answers(history, asked):
    known = predictor(history)
    return [known.predict(quantity, member.key, member.work, 1e9) for member in asked for quantity in Quantity]


@given(st.integers(0, 1000), st.integers(0, 25))
@settings(max_examples=10, deadline=None)
def test_a_restart_changes_no_digit_of_any_answer(seed, count):
    members = some_runs(count + 5, seed)
    history = learn_all(History(), members[:count])
    again = load(dump(history))
    assert again == history
    assert answers(again, members[count:]) == answers(history, members[count:])


def test_learning_goes_on_after_a_restart_as_if_there_had_been_none():
    members = some_runs()
    without = learn_all(History(), members)
    assert learn(load(dump(learn_all(History(), members[:-1]))), members[-1]) == without


def test_the_largest_history_stays_below_a_megabyte_and_comes_back():
    def long_name(*parts):
        return "-".join(map(str, parts)).ljust(LONGEST_NAME, "x")

    keys = itertools.cycle(
        [Key(long_name("m", i), long_name("t", i), long_name("L4", i), long_name("e", i)) for i in range(KEYS)]
    )
    history = learn_all(
        History(),
        (
            FinishedRun(
                f"{i:036d}",
                next(keys),
                Work(1.23456789012345e16 + i, 4.0123456789e9, 1.1234567890123e12, 0.12345678901234, 4321),
                1795257045.123456 + i,
                123.4567890123456,
                4.123456789012345e9,
                12.34567890123456,
            )
            for i in range(RUNS)
        ),
    )
    text = dump(history)
    assert len(history.runs) == RUNS
    assert len(text.encode()) <= LARGEST_BYTES
    assert load(text) == history


def damaged(change):
    content = json.loads(dump(learn_all(History(), some_runs(3))))
    change(content)
    return json.dumps(content)


DAMAGED = {
    "no JSON": "{",
    "another thing": "[]",
    "null": "null",
    "deep": "[" * 100_000,
    "too long": " " * (LARGEST_BYTES + 1),
    "another version": damaged(lambda c: c.update(version=2)),
    "no version": damaged(lambda c: c.pop("version")),
    "an unknown key": damaged(lambda c: c["runs"][0].__setitem__(1, 99)),
    "a negative key": damaged(lambda c: c["runs"][0].__setitem__(1, -1)),
    "a key that is no number": damaged(lambda c: c["runs"][0].__setitem__(1, "0")),
    "a short row": damaged(lambda c: c["runs"][0].pop()),
    "a long row": damaged(lambda c: c["runs"][0].extend([1.0, 1.0])),
    "a short key": damaged(lambda c: c["keys"][0].pop()),
    "negative seconds": damaged(lambda c: c["runs"][0].__setitem__(8, -1.0)),
    "NaN": damaged(lambda c: c["runs"][0].__setitem__(8, float("nan"))),
    "absurd seconds": damaged(lambda c: c["runs"][0].__setitem__(8, 1e30)),
    "runs that are no list": damaged(lambda c: c.update(runs=7)),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_history_is_refused_in_words(text):
    with pytest.raises(InvalidHistoryError, match=r"history|version|key number|characters"):
        load(text)
