"""Tunes every policy equally hard: the whole grid is replayed, the training part chooses, the rest judges.

The cheapest setting that meets a late-work target on the training part is chosen, for all series of a group (seeds of a
family) together, per lead time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.fluid_queue import Totals, replay
from evalfleet_scaling.forecast.grid import EQUAL, Grid, Outcome
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import (
    Candidate,
    InvalidPolicyError,
    Scenarios,
    Setting,
    Tuning,
    keep_minutes,
    scenarios_of,
    settings_of,
)


@dataclass(frozen=True, slots=True)
class Tuned:
    """A policy with the setting its training part chose.

    Attributes:
        chosen: setting, and its outcome on the training part.
        judged: the same setting on the rest.
        hindsight: the setting that would have been best on the rest, at the same target: what no tuning can beat.
    """

    chosen: Outcome
    judged: Outcome
    hindsight: Outcome


@dataclass(frozen=True, slots=True)
class Split:
    """Which buckets train, [first, judged), and from which on is judged; which series belong together."""

    first: int
    judged: int
    series: slice = field(default_factory=lambda: slice(None))


def tune(grid: Grid, lead: int, target_percent: float, split: Split) -> Tuned:
    """Choose on the training buckets, judge on the rest.

    Raises:
        InvalidPolicyError: one of the two parts is empty.
    """
    if not 0 <= split.first < split.judged < len(grid.work):
        raise InvalidPolicyError(
            f"buckets [{split.first}, {split.judged}) of {len(grid.work)} leave nothing to train or to judge on"
        )
    rest = slice(split.judged, None)
    chosen = grid.best(lead, target_percent, slice(split.first, split.judged), split.series)
    cost, late = grid.outcomes(lead, rest, split.series)
    index = grid.settings.index(chosen.setting)
    percent = 100.0 * float(late[index])
    judged = Outcome(chosen.setting, float(cost[index]), percent, percent <= target_percent + EQUAL)
    return Tuned(chosen, judged, grid.best(lead, target_percent, rest, split.series))


def with_settings(scenarios: Scenarios, settings: Sequence[Setting]) -> Scenarios:
    """The same scenarios, each with a setting of its own."""
    safety, drain, keep = np.array([(one.safety, one.drain_minutes, one.keep_share) for one in settings]).T
    tuning = Tuning(safety, drain, keep_minutes(keep, scenarios.lead_minutes))
    return Scenarios(scenarios.series, scenarios.source, scenarios.lead_minutes, scenarios.tolerated_minutes, tuning)


def foresight(candidate: Candidate, series: Series, lead: int, minute: int) -> bool:
    """Whether what a policy did up to `minute` changes when everything after it is replaced: then it looks ahead."""
    changed = series.values.copy()
    changed[minute + 1 :] = 10.0 * np.nan_to_num(changed[minute + 1 :][::-1]) + 1_000.0
    paid = [
        _paid(replay(candidate.factory, scenarios_of([one], [lead], lead, settings_of(candidate)), 1), minute)
        for one in (series, Series(changed, series.start_minute, series.name))
    ]
    return not np.array_equal(paid[0], paid[1])


def _paid(totals: Totals, minute: int) -> FloatArray:
    return totals.paid[: minute + 2]
