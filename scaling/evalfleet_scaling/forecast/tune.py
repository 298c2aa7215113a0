"""Tunes every policy equally hard: the whole grid is replayed, the training part chooses, the rest judges.

A setting meets a late-work target if the share of work that waited longer than tau is within it. The cheapest such
setting is chosen, for all series of a group (seeds of a family) together, per lead time. If none meets the target, the
one with the least late work is chosen, and the outcome says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.fluid_queue import Ledger, replay
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.policy import (
    Candidate,
    InvalidPolicyError,
    Lanes,
    Setting,
    Tuning,
    keep_minutes,
    lanes_of,
    settings_of,
)

EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a setting cost over some time.

    Attributes:
        setting: the setting.
        cost: GPU-seconds paid / GPU-seconds of work; infinite without work.
        late_percent: share of the work that waited longer than tau.
        met: whether that is within the target.
    """

    setting: Setting
    cost: float
    late_percent: float
    met: bool


@dataclass(frozen=True, slots=True)
class Grid:
    """A candidate replayed with every setting; sums per bucket, each of shape (buckets, series, leads, settings)."""

    settings: tuple[Setting, ...]
    leads: tuple[int, ...]
    bucket_minutes: int
    work: FloatArray
    late: FloatArray
    paid: FloatArray

    def outcomes(self, lead: int, buckets: slice, series: slice = slice(None)) -> tuple[FloatArray, FloatArray]:
        """Cost and late share of every setting over some buckets and series, each of shape (settings,)."""
        column = self.leads.index(lead)
        work, late, paid = (
            part[buckets, series, column].sum(axis=(0, 1)) for part in (self.work, self.late, self.paid)
        )
        some = np.maximum(work, EQUAL)
        return np.where(work > 0, paid / some, np.inf), np.where(work > 0, late / some, 0.0)

    def best(self, lead: int, target_percent: float, buckets: slice, series: slice = slice(None)) -> Outcome:
        """The cheapest setting that meets the target over these buckets; else the least late, then the cheapest."""
        cost, late = self.outcomes(lead, buckets, series)
        percent = 100.0 * late
        met = percent <= target_percent + EQUAL
        order = np.lexsort((cost, np.where(met, 0.0, percent)))
        index = int(order[0])
        return Outcome(self.settings[index], float(cost[index]), float(percent[index]), bool(met[index]))


def replay_grid(
    candidate: Candidate,
    series: Sequence[Series],
    leads: Sequence[int],
    tolerated_minutes: int,
    bucket_minutes: int = MINUTES_PER_DAY,
) -> Grid:
    """Replay a candidate with every setting of its grid on every series and lead time, side by side."""
    settings = settings_of(candidate)
    ledger = replay(candidate.factory, lanes_of(series, leads, tolerated_minutes, settings), bucket_minutes)
    shape = (-1, len(series), len(leads), len(settings))
    work, late, paid = (part.reshape(shape) for part in (ledger.work, ledger.late, ledger.paid))
    return Grid(settings, tuple(leads), bucket_minutes, work, late, paid)


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


def with_settings(lanes: Lanes, settings: Sequence[Setting]) -> Lanes:
    """The same lanes, each with a setting of its own."""
    safety, drain, keep = np.array([(one.safety, one.drain_minutes, one.keep_share) for one in settings]).T
    tuning = Tuning(safety, drain, keep_minutes(keep, lanes.lead_minutes))
    return Lanes(lanes.series, lanes.source, lanes.lead_minutes, lanes.tolerated_minutes, tuning)


def foresight(candidate: Candidate, series: Series, lead: int, minute: int) -> bool:
    """Whether what a policy did up to `minute` changes when everything after it is replaced: then it looks ahead."""
    changed = series.values.copy()
    changed[minute + 1 :] = 10.0 * np.nan_to_num(changed[minute + 1 :][::-1]) + 1_000.0
    paid = [
        _paid(replay(candidate.factory, lanes_of([one], [lead], lead, settings_of(candidate)), 1), minute)
        for one in (series, Series(changed, series.start_minute, series.name))
    ]
    return not np.array_equal(paid[0], paid[1])


def _paid(ledger: Ledger, minute: int) -> FloatArray:
    return ledger.paid[: minute + 2]
