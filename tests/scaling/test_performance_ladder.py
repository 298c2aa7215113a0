"""Which rung answers, how wide its interval is, and how runs move it."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.eta import EtaInput, estimate_finish
from evalfleet_scaling.performance.history import History, learn, learn_all
from evalfleet_scaling.performance.interface import FinishedRun, Key, Quantity, Rung, Work
from evalfleet_scaling.performance.predict import predictor
from evalfleet_scaling.performance.roofline import device, expected, planned_work

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
SECONDS, BYTES, STARTUP = Quantity.SCORING_SECONDS, Quantity.MEMORY_BYTES, Quantity.STARTUP_SECONDS
WORK = Work(flops=1e17, memory_bytes=4e9, units=100)


def key(model="m1", task="t1", gpu=H100, engine="v1"):
    return Key(model, task, gpu, engine)


def run(run_id, of=None, ratio=1.0, work=WORK, at=0.0):
    """A run that took `ratio` times what arithmetic says, in every quantity."""
    of = of or key()
    measured = {q: ratio * expected(q, work, of.gpu) for q in Quantity}
    return FinishedRun(run_id, of, work, at, measured[SECONDS], measured[BYTES], measured[STARTUP])


def history(*runs):
    return learn_all(History(), runs)


def ask(known, of=None, work=WORK, quantity=SECONDS, now=100.0):
    return predictor(known).predict(quantity, of or key(), work, now)


def width(prediction):
    return prediction.p90 / prediction.p10


@pytest.mark.parametrize("quantity", Quantity)
def test_with_nothing_learnt_arithmetic_answers_within_its_factor(quantity):
    answer = ask(History(), quantity=quantity)
    factor = 3 if quantity is STARTUP else 2
    assert answer.p50 == pytest.approx(expected(quantity, WORK, H100))
    assert answer.p90 / answer.p50 == pytest.approx(factor)
    assert answer.p50 / answer.p10 == pytest.approx(factor)
    assert answer.rung is Rung.ROOFLINE
    assert f"factor of {factor}" in answer.explanation


def test_an_h200_is_planned_at_the_rate_that_was_measured_on_one():
    assert device("NVIDIA H200").flops_per_second == pytest.approx(4.5e14, rel=0.02)


def test_the_plans_reference_device_is_the_workers():
    from evalfleet_scaling.performance import roofline
    from evalfleet_worker.plan.size import REFERENCE

    assert REFERENCE.flops_per_second == roofline.REFERENCE_FLOPS_PER_SECOND
    assert REFERENCE.bytes_per_second == roofline.REFERENCE_BYTES_PER_SECOND
    assert REFERENCE.value_bytes == roofline.PLANNED_VALUE_BYTES


def test_seconds_of_user_code_are_the_same_on_every_device():
    work = planned_work(predicted_seconds=50.0, flops=0.0, memory_bytes=0.0, bytes_read=0.0, units=1)
    assert work.other_seconds == 50.0
    assert expected(SECONDS, work, H100) == expected(SECONDS, work, "cpu")


def test_arithmetic_is_not_taken_for_user_code():
    work = planned_work(predicted_seconds=100.0, flops=3e12, memory_bytes=1e9, bytes_read=0.0, units=20)
    assert work.other_seconds == 0.0


RUNG_OF = {
    "the same key": (key(), Rung.HISTORY),
    "another model, the same task": (key(model="m2"), Rung.SAME_TASK),
    "the same model, another task": (key(task="t2"), Rung.SAME_MODEL),
    "neither": (key(model="m2", task="t2"), Rung.SAME_GPU),
    "another device": (key(gpu=L4), Rung.OTHER_GPU),
    "another engine": (key(engine="v2"), Rung.OTHER_GPU),
    "nothing in common": (key("m2", "t2", L4), Rung.ROOFLINE),
}


@pytest.mark.parametrize(("asked", "rung"), RUNG_OF.values(), ids=RUNG_OF.keys())
def test_the_most_specific_rung_answers(asked, rung):
    answer = ask(history(*(run(f"r{i}", ratio=3.0) for i in range(5))), asked)
    assert answer.rung is rung
    assert asked.gpu in answer.explanation
    assert answer.runs == (5 if rung is Rung.HISTORY else 0)


@pytest.mark.parametrize("quantity", Quantity)
@pytest.mark.parametrize("asked", [key(gpu=L4), key("m9", "t9", L4)], ids=["known elsewhere", "nothing in common"])
def test_a_device_that_was_never_used_is_answered_with_the_doubt_of_arithmetic(asked, quantity):
    known = history(*(run(f"r{i}", of=key(f"m{i % 3}", f"t{i % 4}")) for i in range(60)))
    assert width(ask(known, asked, quantity=quantity)) >= (9 if quantity is STARTUP else 4) * (1 - 1e-9)


def test_the_nearer_the_rung_the_narrower_the_interval():
    known = history(*(run(f"r{i}", ratio=1.5, of=key(task=f"t{i % 3}")) for i in range(12)))
    asked = [key(task="t1"), key(model="m2", task="t1"), key(model="m2", task="t9"), key("m2", "t9", L4)]
    widths = [width(ask(known, one)) for one in asked]
    assert all(near < far for near, far in pairwise(widths))


def test_a_repeated_key_takes_as_long_as_it_took():
    answer = ask(history(*(run(f"r{i}", ratio=2.5) for i in range(6))))
    assert answer.p50 == pytest.approx(2.5 * expected(SECONDS, WORK, H100), rel=0.02)
    assert "6 earlier runs" in answer.explanation


def test_the_eta_of_a_predicted_run_has_its_quantiles():
    answer = ask(history(*(run(f"r{i}", ratio=2.5) for i in range(6))))
    eta = estimate_finish(EtaInput(answer.planned, ready_workers=1, rate_relative_error=answer.relative_error))
    assert eta.p50 == pytest.approx(answer.p50, rel=0.01)
    assert eta.p90 == pytest.approx(answer.p90, rel=0.03)


def test_a_new_model_is_scaled_by_its_arithmetic_and_the_efficiency_of_the_device():
    known = history(*(run(f"r{i}", of=key(f"m{i}", "t1"), ratio=1.6) for i in range(8)))
    large = Work(flops=8e17, memory_bytes=4e9, units=800)
    answer = ask(known, key("new", "t1"), large)
    assert answer.p50 == pytest.approx(1.6 * expected(SECONDS, large, H100), rel=0.1)


def test_what_is_special_of_a_task_is_known_on_another_device():
    runs = [run(f"a{i}", of=key(f"m{i % 4}", f"t{i % 5}", H100), ratio=3.0 if i % 5 == 0 else 1.0) for i in range(40)]
    there = [run(f"b{i}", of=key(f"m{i % 4}", f"t{i % 5}", L4), ratio=1.0) for i in range(40) if i % 5]
    known = history(*runs, *there)
    assert ask(known, key("m1", "t0", L4)).p50 > 1.2 * ask(known, key("m1", "t9", L4)).p50


def test_a_start_does_not_depend_on_the_task():
    known = history(*(run(f"r{i}", ratio=2.0) for i in range(5)))
    other = ask(known, key(task="t2"), quantity=STARTUP)
    assert other.rung is Rung.HISTORY
    assert other.p50 == ask(known, quantity=STARTUP).p50
    assert ask(known, key(model="m2"), quantity=STARTUP).rung is Rung.SAME_GPU
    assert ask(known, key("m2", gpu=L4), quantity=STARTUP).rung is Rung.ROOFLINE


def test_a_run_that_measured_no_memory_leaves_memory_to_arithmetic():
    known = history(FinishedRun("r", key(), WORK, 0.0, scoring_seconds=500.0))
    assert ask(known, quantity=BYTES).rung is Rung.ROOFLINE
    assert ask(known).rung is Rung.HISTORY


def test_small_runs_are_foreseen_from_large_ones_where_every_run_pays_a_fixed_part():
    def seconds(work):
        return 1.4 * expected(SECONDS, work, H100) + 4.0

    sizes = [Work(flops=size, memory_bytes=4e9) for size in (1e15, 3e15, 1e16, 3e16, 1e17)]
    runs = [FinishedRun(f"r{i}", key(), work, float(i), seconds(work)) for i, work in enumerate(sizes * 3)]
    small = Work(flops=5e14, memory_bytes=4e9)
    assert ask(history(*runs), work=small).p50 == pytest.approx(seconds(small), rel=0.15)


@given(st.integers(1, 30), st.floats(0.1, 10.0))
@settings(max_examples=10, deadline=None)
def test_more_runs_of_the_same_value_narrow_the_interval(count, ratio):
    fewer = history(*(run(f"r{i}", ratio=ratio) for i in range(count)))
    more = learn(fewer, run("one more", ratio=ratio))
    for quantity in Quantity:
        assert width(ask(more, quantity=quantity)) < width(ask(fewer, quantity=quantity))


def names():
    return st.builds(
        Key, st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from([H100, L4, "cpu"]), st.just("v")
    )


def works():
    return st.builds(
        Work,
        flops=st.floats(1e6, 1e21),
        memory_bytes=st.floats(0, 1e12),
        bytes_read=st.floats(0, 1e15),
        other_seconds=st.floats(0, 1e5),
        units=st.integers(0, 100_000),
    )


def histories():
    ratios = st.floats(-3, 3).map(math.exp)
    return st.lists(st.tuples(names(), works(), ratios, st.integers(0, 5)), max_size=15).map(
        lambda rows: [run(f"r{i}", of, ratio, work, float(at)) for i, (of, work, ratio, at) in enumerate(rows)]
    )


@given(histories(), names(), works(), works())
@settings(max_examples=40, deadline=None)
def test_quantiles_are_ordered_and_more_work_never_takes_less(runs, of, work, more):
    larger = Work(
        work.flops + more.flops,
        work.memory_bytes,
        work.bytes_read + more.bytes_read,
        work.other_seconds + more.other_seconds,
        work.units + more.units,
    )
    asked = predictor(history(*runs))
    for quantity in Quantity:
        answer = asked.predict(quantity, of, work, 10.0)
        assert 0 < answer.p10 < answer.p50 < answer.p90 < math.inf
        assert answer.relative_error > 0
    less, much = (asked.predict(SECONDS, of, size, 10.0) for size in (work, larger))
    slack = 1 - 1e-9
    roomy = replace(work, memory_bytes=work.memory_bytes + more.memory_bytes)
    for quantity in BYTES, STARTUP:
        assert asked.predict(quantity, of, roomy, 10.0).p50 >= slack * asked.predict(quantity, of, work, 10.0).p50
    assert much.p10 >= slack * less.p10
    assert much.p50 >= slack * less.p50
    assert much.p90 >= slack * less.p90


@given(histories(), names(), works(), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_the_order_of_learning_does_not_matter_not_even_among_runs_of_equal_time(runs, of, work, shuffling):
    one = ask(history(*runs), of, work)
    shuffling.shuffle(runs)
    step_by_step = History()
    for member in runs:
        step_by_step = learn(step_by_step, member)
    assert ask(step_by_step, of, work) == one


def test_a_run_learnt_twice_counts_once():
    once = history(run("a", ratio=1.2), run("b", ratio=1.3))
    assert learn(once, run("a", ratio=1.2)) == once


def test_a_corrected_measurement_replaces_the_first():
    assert learn(history(run("a", ratio=9.0)), run("a", ratio=1.0)) == history(run("a", ratio=1.0))
