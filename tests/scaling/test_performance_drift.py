"""A place that is slower lately is slower for all its keys; one that only varies is not."""

import math

import numpy as np
import pytest

from evalfleet_scaling.performance.history import History, learn_all
from evalfleet_scaling.performance.interface import FinishedRun, Key, Quantity, Work
from evalfleet_scaling.performance.predict import predictor
from evalfleet_scaling.performance.roofline import expected

SECONDS = Quantity.SCORING_SECONDS
WORK = Work(flops=1e16, memory_bytes=2e9, units=10)
MINUTE, DAY = 60.0, 86400.0


def key(task, gpu="NVIDIA L4"):
    return Key("m", task, gpu, "v1")


def runs(factor, count=60, every=10 * MINUTE, gpu="NVIDIA L4", noise=0.03, begin=0.0):
    """Runs of four tasks in turn, each `factor(number)` times as long as arithmetic says."""
    draw = np.random.default_rng(7)
    return [
        FinishedRun(
            f"{gpu}-{begin}-{number}",
            key(f"t{number % 4}", gpu),
            WORK,
            begin + number * every,
            factor(number) * math.exp(draw.normal(0, noise)) * expected(SECONDS, WORK, gpu),
        )
        for number in range(count)
    ]


def ratio(history, now, task="t0", gpu="NVIDIA L4"):
    answer = predictor(history).predict(SECONDS, key(task, gpu), WORK, now)
    return answer.p50 / expected(SECONDS, WORK, gpu), answer


def slow_from(first):
    return lambda number: 1.5 if number >= first else 1.0


def test_keys_that_have_not_run_since_a_slowdown_are_expected_slower_too():
    before, after = (
        runs(slow_from(999)),
        [r for r in runs(slow_from(0), 24, begin=60 * 10 * MINUTE) if r.key.task != "t3"],
    )
    history = learn_all(History(), [*before, *after])
    now = after[-1].finished_seconds + MINUTE
    told, answer = ratio(history, now, "t3")
    assert told > 1.3
    assert "lately" in answer.explanation


def test_another_device_is_not_concerned():
    slowed = runs(slow_from(40))
    steady = runs(slow_from(999), gpu="NVIDIA H100")
    history = learn_all(History(), [*slowed, *steady])
    assert ratio(history, slowed[-1].finished_seconds, gpu="NVIDIA H100")[0] == pytest.approx(1.0, rel=0.05)


def test_a_slow_hour_is_forgotten_and_the_interval_widens_meanwhile():
    def wave(number):
        return 1.5 if (number // 8) % 2 else 1.0

    members = runs(wave, count=64, every=MINUTE)
    history = learn_all(History(), members)
    last = members[-1].finished_seconds
    (soon, near), (later, far) = ratio(history, last + 1), ratio(history, last + 30 * DAY)
    assert soon > 1.3
    assert later == pytest.approx(math.sqrt(1.5), rel=0.12)
    assert far.p90 / far.p10 > near.p90 / near.p10


def test_a_clock_that_went_back_changes_nothing():
    members = runs(slow_from(40), every=MINUTE)
    history = learn_all(History(), members)
    last = members[-1].finished_seconds
    assert ratio(history, 0.0) == ratio(history, last)


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_noise_is_not_taken_for_drift(noise):
    members = runs(slow_from(999), count=120, noise=noise)
    fitted = predictor(learn_all(History(), members)).fits[SECONDS]
    assert [place.half_life_seconds for place in fitted.drifts] == [0.0]
