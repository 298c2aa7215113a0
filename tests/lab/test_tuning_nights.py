"""The nightly choice between reaction and prediction, replayed."""

import numpy as np
from demand_series import DAY, knowing, waves

from evalfleet_lab.tuning.nights import FIRST_DAYS, Nights, Rivals, better, run_nights, share_predicting
from evalfleet_scaling.forecast.grid import Outcome, replay_grid
from evalfleet_scaling.forecast.interface import Series
from evalfleet_scaling.forecast.policy import Setting
from evalfleet_scaling.forecast.self_replay import Terms
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, proactive

TERMS = Terms(15)


def outcome(cost: float, met: bool = True) -> Outcome:
    return Outcome(Setting(0.9, 10.0, 1.0), cost, 0.5 if met else 7.0, met)


def test_the_night_chooses_by_the_past_alone_and_follows_what_pays() -> None:
    series = waves(4)
    nights = nights_of(series, knowing(series, 15))
    assert [day[0].predicts for day in nights.choices] == [False] * FIRST_DAYS + [True] * 2
    assert share_predicting(nights, FIRST_DAYS, 0) == 1.0
    work, late = (part[FIRST_DAYS:].sum() for part in (nights.totals.work, nights.totals.late))
    assert 100 * late / work <= TERMS.late_percent
    changed = Series(np.concatenate([series.values[: 3 * DAY], 3 * series.values[3 * DAY :]]))
    other = nights_of(changed, knowing(series, 15))
    assert [day[0].setting for day in other.choices] == [day[0].setting for day in nights.choices]


def nights_of(series: Series, forecast: DemandForecast) -> Nights:
    ours = proactive(forecast)
    grids = [replay_grid(one, [series], [15], 10) for one in (REACTIVE, ours)]
    return run_nights([series], {15: Rivals(REACTIVE, grids[0], ours, grids[1])}, [TERMS])


def test_prediction_takes_over_only_with_five_percent_or_where_it_alone_meets_the_target() -> None:
    assert better(outcome(1.0), outcome(1.06))
    assert not better(outcome(1.0), outcome(1.04))
    assert better(outcome(9.0), outcome(1.0, met=False))
    assert not better(outcome(1.0, met=False), outcome(9.0))
    assert not better(outcome(1.0, met=False), outcome(1.0, met=False))
