"""Alarm when demand has left its pattern: a CUSUM of quarter-hour demand against what the same time of day knew.

The quantiles of the ensemble follow a shift within minutes, so their exceedances cannot show it for long: a CUSUM on
1{D > q90} - 0.1 sees a doubling only until SES has caught up. The reference here is slow and seasonal: the same time of
day yesterday, a week ago, and on the mean of the days of the same kind (working day or weekend) of the last seven.
Whatever agrees with *one* of them is a known pattern; where no day of the same kind was seen yet, nothing is said.

    r = sqrt(B) - sqrt(E) of the closest reference E   (the root makes the variance of random arrivals the same by day
                                                        and by night)
    z = clip(r / s, -3, 3), s = 95th percentile of |r| of the last three days / 1.96
    up <- max(0, up + z - k);  down <- max(0, down - z - k);  alarm above h   (Page 1954)

A single absurd quarter of an hour adds at most 3 - k, below h: an anomaly is not a drift.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.window import Window, trailing_mean_new

BLOCK_MINUTES = 15
CLIP = 3.0
ALLOWANCE = 1.0
THRESHOLD = 6.0
CAREFUL_MINUTES = MINUTES_PER_DAY
"""For this long after an alarm only stages 1 and 2 are heard, and no second alarm is raised."""
SCALE_BLOCKS = 3 * MINUTES_PER_DAY // BLOCK_MINUTES
SCALE_LEVEL, SCALE_NORMAL = 0.95, 1.96
"""The 95th percentile of |r| in standard deviations; the median would make every burst an outlier."""
BLOCKS_TO_LEARN = 24
DAYS = 7
SATURDAY = 5
THURSDAY = 3
"""Day of the week of the Unix epoch, Monday = 0."""


@dataclass
class Drift:
    """Two-sided CUSUM over blocks of a quarter of an hour."""

    up: FloatArray = field(init=False)
    down: FloatArray = field(init=False)
    changes: FloatArray = field(init=False)
    seen: np.ndarray = field(init=False)
    careful: np.ndarray = field(init=False)
    alarms: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.up, self.down = np.zeros(1), np.zeros(1)
        self.changes = np.zeros(SCALE_BLOCKS)
        self.seen = np.zeros(1, dtype=np.int64)
        self.careful = np.zeros(1, dtype=np.int64)
        self.alarms = np.zeros(1, dtype=np.int64)

    def advance(self, window: Window) -> np.ndarray:
        """Whether each new minute lies within a day after an alarm, shape (new,)."""
        minutes = window.new_minutes()
        changes = np.full(len(minutes), np.nan)
        ends = (minutes + 1) % BLOCK_MINUTES == 0
        if ends.any():
            changes[ends] = closest_change(window)[ends]
        out = np.zeros(len(minutes), dtype=bool)
        for row in range(len(minutes)):
            self.careful[0] = max(0, int(self.careful[0]) - 1)
            if ends[row] and not np.isnan(changes[row]):
                self._step(float(changes[row]))
            out[row] = self.careful[0] > 0
        return out

    def _step(self, change: float) -> None:
        seen = int(self.seen[0])
        known = self.changes[: min(seen, SCALE_BLOCKS)]
        self.changes[seen % SCALE_BLOCKS] = abs(change)
        self.seen[0] += 1
        if seen < BLOCKS_TO_LEARN or self.careful[0]:
            self.up[0] = self.down[0] = 0.0
            return
        scale = max(float(np.quantile(known, SCALE_LEVEL)) / SCALE_NORMAL, 1e-9)
        score = float(np.clip(change / scale, -CLIP, CLIP))
        self.up[0] = max(0.0, self.up[0] + score - ALLOWANCE)
        self.down[0] = max(0.0, self.down[0] - score - ALLOWANCE)
        if max(self.up[0], self.down[0]) > THRESHOLD:
            self.up[0] = self.down[0] = 0.0
            self.careful[0] = CAREFUL_MINUTES
            self.alarms[0] += 1


def closest_change(window: Window) -> FloatArray:
    """sqrt(B) - sqrt(E) for the reference with the least difference, shape (new,); NaN where none can be told."""
    now = trailing_mean_new(window, BLOCK_MINUTES)
    wide, half = 4 * BLOCK_MINUTES, 3 * BLOCK_MINUTES // 2
    days = np.stack([trailing_mean_new(window, wide, day * MINUTES_PER_DAY - half) for day in range(1, DAYS + 1)])
    weekday = (window.new_minutes() // MINUTES_PER_DAY + THURSDAY) % DAYS
    weekend = weekday >= SATURDAY
    lags = np.arange(1, DAYS + 1)[:, None]
    alike = (((weekday - lags) % DAYS >= SATURDAY) == weekend) & ~np.isnan(days)
    count = alike.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        kind = np.where(count > 0, np.where(alike, days, 0.0).sum(axis=0) / count, np.nan)
    differences = np.sqrt(now) - np.sqrt(np.stack([days[0], days[-1], kind]))
    best = np.argmin(np.nan_to_num(np.abs(differences), nan=np.inf), axis=0)
    closest = np.take_along_axis(differences, best[None], axis=0)[0]
    return np.where(count > 0, closest, np.nan)
