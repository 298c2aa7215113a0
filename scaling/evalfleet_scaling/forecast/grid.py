"""A policy replayed with every setting of its grid, side by side, and which setting was best over some time.

A setting meets a late-work target if the share of work that waited longer than tau is within it. The best is the
cheapest that meets it; if none does, the one with the least late work, and the outcome says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.fluid_queue import replay
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.policy import Candidate, Setting, scenarios_of, settings_of

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
    totals = replay(candidate.factory, scenarios_of(series, leads, tolerated_minutes, settings), bucket_minutes)
    shape = (-1, len(series), len(leads), len(settings))
    work, late, paid = (part.reshape(shape) for part in (totals.work, totals.late, totals.paid))
    return Grid(settings, tuple(leads), bucket_minutes, work, late, paid)
