"""Numbers that cannot be are refused in words; numbers that are merely wrong harm as little as possible."""

from math import inf, nan

import pytest

from evalfleet_scaling.performance.history import KEYS, RUNS, RUNS_PER_KEY, History, learn, learn_all
from evalfleet_scaling.performance.interface import (
    FinishedRun,
    InvalidKeyError,
    InvalidRunError,
    InvalidWorkError,
    Key,
    Quantity,
    Work,
)
from evalfleet_scaling.performance.predict import predictor
from evalfleet_scaling.performance.roofline import expected

SECONDS = Quantity.SCORING_SECONDS
KEY = Key("m", "t", "NVIDIA L4", "v1")
WORK = Work(flops=1e16, memory_bytes=2e9, units=10)
USUAL = expected(SECONDS, WORK, KEY.gpu)


def run(run_id, ratio=1.0, at=0.0, key=KEY):
    return FinishedRun(run_id, key, WORK, at, scoring_seconds=ratio * USUAL)


def ask(history, key=KEY):
    return predictor(history).predict(SECONDS, key, WORK, 10.0)


@pytest.mark.parametrize("value", [nan, inf, -1.0, 10**31, True, "1", None], ids=repr)
@pytest.mark.parametrize("field", ["flops", "memory_bytes", "bytes_read", "other_seconds", "units"])
def test_work_that_is_no_size_is_refused_by_its_name(field, value):
    with pytest.raises(InvalidWorkError, match=field):
        Work(**{"flops": 1.0, "memory_bytes": 1.0, field: value})


@pytest.mark.parametrize("now", [nan, inf, -1.0])
def test_no_time_is_no_time_to_predict_for(now):
    with pytest.raises(InvalidWorkError, match="now_seconds"):
        predictor(History()).predict(SECONDS, KEY, WORK, now)


def test_no_work_is_refused():
    with pytest.raises(InvalidWorkError, match="nothing to predict"):
        Work(flops=0.0, memory_bytes=1e9, units=5)


@pytest.mark.parametrize("value", [nan, inf, -1.0, 0.0, True, "1"], ids=repr)
@pytest.mark.parametrize("field", ["scoring_seconds", "memory_bytes", "startup_seconds"])
def test_a_measurement_that_cannot_be_is_refused_with_its_run(field, value):
    with pytest.raises(InvalidRunError, match=r"r1: .*(number|below|measurement)"):
        FinishedRun("r1", KEY, WORK, 0.0, **{field: value})


def test_a_run_without_any_measurement_is_refused():
    with pytest.raises(InvalidRunError, match="nothing to learn"):
        FinishedRun("r1", KEY, WORK, 0.0)


@pytest.mark.parametrize("name", ["", "x" * 254, None], ids=["empty", "long", "none"])
def test_a_run_without_a_name_is_refused(name):
    with pytest.raises(InvalidRunError, match="run_id"):
        FinishedRun(name, KEY, WORK, 0.0, scoring_seconds=1.0)


@pytest.mark.parametrize("when", [nan, inf, -1.0])
def test_a_run_that_finished_at_no_time_is_refused(when):
    with pytest.raises(InvalidRunError, match="finished_seconds"):
        FinishedRun("r1", KEY, WORK, when, scoring_seconds=1.0)


@pytest.mark.parametrize("name", ["", "x" * 254, None, 7], ids=["empty", "long", "none", "number"])
@pytest.mark.parametrize("field", ["model", "task", "gpu", "engine"])
def test_a_name_that_is_none_is_refused(field, name):
    with pytest.raises(InvalidKeyError, match=field):
        Key(**{"model": "m", "task": "t", "gpu": "g", "engine": "e", field: name})


@pytest.mark.parametrize("ratio", [2e-5, 2e4])
def test_a_measurement_in_the_wrong_unit_is_refused_and_changes_nothing(ratio):
    before = learn(History(), run("r1"))
    with pytest.raises(InvalidRunError, match=r"arithmetic says .* is the unit right"):
        learn(before, run("r2", ratio))
    assert before == learn(History(), run("r1"))


@pytest.mark.parametrize("ratio", [0.01, 100.0])
def test_one_run_on_a_machine_that_hung_hardly_moves_the_answer(ratio):
    usual = [run(f"r{i}", ratio=1 + 0.02 * (-1) ** i, at=i) for i in range(8)]
    clean, soiled = ask(learn_all(History(), usual)), ask(learn_all(History(), [*usual, run("hung", ratio, at=9)]))
    assert soiled.p50 == pytest.approx(clean.p50, rel=0.02)
    assert soiled.p90 / soiled.p10 < 1.5 * clean.p90 / clean.p10


def test_an_absurd_first_run_of_a_key_leaves_the_other_keys_alone():
    others = [run(f"r{m}{t}", key=Key(f"m{m}", f"t{t}", "NVIDIA L4", "v1")) for m in range(4) for t in range(4)]
    poisoned = run("hung", 500.0, key=Key("m0", "t9", "NVIDIA L4", "v1"))
    clean, soiled = learn_all(History(), others), learn_all(History(), [*others, poisoned])
    for asked in ("m1", "t1"), ("m0", "t1"), ("m1", "new"):
        key = Key(*asked, "NVIDIA L4", "v1")
        assert ask(soiled, key).p50 == pytest.approx(ask(clean, key).p50, rel=0.1)


def test_an_absurd_first_run_is_answered_with_doubt_until_it_is_repeated():
    others = [run(f"r{m}{t}", key=Key(f"m{m}", f"t{t}", "NVIDIA L4", "v1")) for m in range(4) for t in range(4)]
    key = Key("m0", "t9", "NVIDIA L4", "v1")
    once = ask(learn_all(History(), [*others, run("a", 500.0, key=key)]), key)
    assert once.p10 < 20 * USUAL
    often = ask(learn_all(History(), [*others, *(run(f"a{i}", 500.0, key=key) for i in range(6))]), key)
    assert often.p50 == pytest.approx(500 * USUAL, rel=0.1)


def test_the_newest_runs_of_a_key_are_kept():
    history = learn_all(History(), (run(f"r{i}", at=i) for i in range(100)))
    assert [member.finished_seconds for member in history.runs] == list(range(100 - RUNS_PER_KEY, 100))


def test_keys_and_runs_are_bounded_and_the_oldest_go_first():
    keys = [Key(f"m{i}", "t", "NVIDIA L4", "v1") for i in range(KEYS + 20)]
    history = learn_all(History(), (run(f"r{i}", at=i, key=key) for i, key in enumerate(keys)))
    assert [member.key for member in history.runs] == keys[20:]
    again = learn_all(history, [run(f"older{i}", at=0.5, key=keys[0]) for i in range(3)])
    assert {member.key for member in again.runs} == set(keys[20:])
    many = learn_all(History(), (run(f"r{i}", at=i, key=keys[i % KEYS]) for i in range(RUNS + 50)))
    assert [member.finished_seconds for member in many.runs] == list(range(50, RUNS + 50))
