"""Tuning on one part and judging on the rest; who looks ahead is found out."""

import numpy as np
import pytest
from demand_series import noisy, perfect

from evalfleet_lab.tuning.tune import Split, foresight, tune
from evalfleet_scaling.forecast.grid import replay_grid
from evalfleet_scaling.forecast.interface import Series
from evalfleet_scaling.forecast.policy import Candidate, InvalidPolicyError, Scenarios
from evalfleet_scaling.forecast.workers import REACTIVE, proactive


def test_who_looks_ahead_is_found_out_and_reaction_does_not() -> None:
    series = Series(np.random.default_rng(0).exponential(300, 120))

    def cheating(scenarios: Scenarios) -> object:
        return proactive(perfect(scenarios.series[0], 15)).factory(scenarios)

    assert not foresight(REACTIVE, series, 15, 60)
    assert foresight(Candidate("cheating", cheating), series, 15, 60)  # type: ignore[arg-type]


def test_the_training_part_alone_chooses_and_a_missed_target_is_told() -> None:
    grid = replay_grid(REACTIVE, [noisy(12, 2), noisy(12, 3)], [2, 15], 10, 60)
    one = tune(grid, 15, 5.0, Split(1, 6))
    assert one.chosen.met
    assert one.judged.setting == one.chosen.setting
    assert one.hindsight.cost <= one.judged.cost or not one.judged.met
    assert not tune(grid, 15, 0.0, Split(0, 6)).chosen.met
    with pytest.raises(InvalidPolicyError, match="nothing to train"):
        tune(grid, 15, 5.0, Split(0, 12))
