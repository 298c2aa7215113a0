"""The training of trees in a child process."""

import os
import subprocess
import sys

import numpy as np

from evalfleet.forecasting.retraining import pack_training, train_in_child, unpack_training
from evalfleet_lab.synthetic.demand import diurnal
from evalfleet_scaling.forecast.boosting import TrainingSet, train
from evalfleet_scaling.forecast.features import features
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.window import Window

SETUP = Setup((5,), (0.9,))


def training() -> TrainingSet:
    series = diurnal(2, 3)
    return TrainingSet(SETUP, Window(series.values, 1_440, series.start_minute), 600.0)


def test_trees_trained_in_a_child_equal_those_trained_here() -> None:
    there, here = train_in_child(training()), train(training())
    assert there is not None
    assert here is not None
    rows = features(training().window)[0]
    for one, other in zip(there.forests, here.forests, strict=True):
        np.testing.assert_array_equal(one.predict(rows), other.predict(rows))


def test_a_training_set_survives_the_way_to_the_child() -> None:
    copy = unpack_training(pack_training(training()))
    assert copy.setup == SETUP
    assert (copy.window.first, copy.window.minute, copy.typical) == (1_440, training().window.minute, 600.0)


def test_training_on_two_weeks_in_a_child_stays_below_200_megabytes() -> None:
    series = diurnal(15, 3)
    fortnight = TrainingSet(Setup((5, 15), (0.5, 0.9, 0.99)), Window(series.values, MINUTES_PER_DAY, 0), 600.0)
    lines = "evalfleet.forecasting.retraining.main(); print(open('/proc/self/status').read(), file=sys.stderr)"
    child = subprocess.run(
        [sys.executable, "-c", f"import sys, evalfleet.forecasting.retraining; {lines}"],
        input=pack_training(fortnight),
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    peak = next(line for line in child.stderr.decode().splitlines() if line.startswith("VmHWM"))
    assert child.stdout
    assert int(peak.split()[1]) < 200_000


def test_a_child_that_takes_too_long_or_has_nothing_to_learn_keeps_the_old_trees() -> None:
    assert train_in_child(training(), limit_seconds=0.01) is None
    assert train_in_child(TrainingSet(SETUP, Window(np.ones(50), 0, 0), 600.0)) is None
