"""On a made-up truth that does not have the form of the model, answers are as good as they say."""

from statistics import median

import pytest

from evalfleet_lab.synthetic.performance import make_world, runs
from evalfleet_scaling.performance.history import History, learn
from evalfleet_scaling.performance.interface import Quantity, Rung
from evalfleet_scaling.performance.predict import predictor

RELEARN_EVERY = 15


@pytest.fixture(scope="module")
def answered():
    """Runs of one world, each predicted before it is learnt: (prediction, measured seconds)."""
    history, rows = History(), []
    known = predictor(history)
    for number, member in enumerate(runs(make_world(11), seed=12, count=350)):
        if number % RELEARN_EVERY == 0:
            known = predictor(history)
        answer = known.predict(Quantity.SCORING_SECONDS, member.key, member.work, member.finished_seconds)
        rows.append((answer, member.scoring_seconds))
        history = learn(history, member)
    return rows


def error(rows):
    return median(abs(answer.p50 / seconds - 1) for answer, seconds in rows)


def test_repeated_keys_are_known_within_five_percent(answered):
    assert error([row for row in answered if row[0].rung is Rung.HISTORY]) <= 0.05


def test_a_task_is_known_on_a_new_model_within_twenty_percent(answered):
    assert error([row for row in answered[50:] if row[0].rung is Rung.SAME_TASK]) <= 0.20


def test_eighty_percent_intervals_hold_about_eighty_percent(answered):
    held = [answer.p10 <= seconds <= answer.p90 for answer, seconds in answered if answer.rung is Rung.HISTORY]
    sampling_error = (0.8 * 0.2 / len(held)) ** 0.5
    assert abs(sum(held) / len(held) - 0.8) <= 3 * sampling_error
