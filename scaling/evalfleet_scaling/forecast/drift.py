"""Alarm when demand has left its pattern: a CUSUM of quarter-hour demand against what the same time of day knew.

The quantiles of the ensemble follow a shift within minutes, so their exceedances cannot show it for long: a CUSUM on
1{D > q90} - 0.1 sees a doubling only until SES has caught up. The reference here is slow and seasonal: the same time of
day yesterday, a week ago, and on the mean of seven days. Whatever agrees with *one* of them is a known pattern.

    r = log((B + c) / (E + c)) of the closest reference E, c a tenth of the daily mean plus half a typical job
    z = clip(r / s, -3, 3), s the root of the fading mean of r^2 (half-life 3 d), at least 0.1
    up <- max(0, up + z - 1);  down <- max(0, down - z - 1);  alarm above 8

A single absurd quarter of an hour adds at most 2, so it takes four in a row: an anomaly is not a drift.
"""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.memory import same_time_mean
from evalfleet_scaling.forecast.window import Window, trailing_mean_new

BLOCK_MINUTES = 15
CLIP = 3.0
ALLOWANCE = 1.0
THRESHOLD = 8.0
CAREFUL_MINUTES = MINUTES_PER_DAY
"""For this long after an alarm only stages 1 and 2 are heard, and no second alarm is raised."""
SCALE_DECAY = 0.5 ** (BLOCK_MINUTES / (3 * MINUTES_PER_DAY))
LEAST_SCALE = 0.1
BLOCKS_TO_LEARN = 24


@dataclass
class Drift:
    """Two-sided CUSUM over blocks of a quarter of an hour."""

    up: FloatArray = field(init=False)
    down: FloatArray = field(init=False)
    moments: FloatArray = field(init=False)
    careful: np.ndarray = field(init=False)
    alarms: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.up, self.down = np.zeros(1), np.zeros(1)
        # Discounted sum of squares, its weight, blocks seen.
        self.moments = np.array([0.25 * 8.0, 8.0, 0.0])
        self.careful = np.zeros(1, dtype=np.int64)
        self.alarms = np.zeros(1, dtype=np.int64)

    def advance(self, window: Window, typical: FloatArray) -> np.ndarray:
        """Whether each new minute lies within a day after an alarm, shape (new,)."""
        minutes = window.new_minutes()
        ratios = np.full(len(minutes), np.nan)
        ends = (minutes + 1) % BLOCK_MINUTES == 0
        if ends.any():
            ratios[ends] = _closest_ratio(window, typical)[ends]
        out = np.zeros(len(minutes), dtype=bool)
        for row in range(len(minutes)):
            self.careful[0] = max(0, int(self.careful[0]) - 1)
            if ends[row] and not np.isnan(ratios[row]):
                self._step(float(ratios[row]))
            out[row] = self.careful[0] > 0
        return out

    def _step(self, ratio: float) -> None:
        scale = max(LEAST_SCALE, float(np.sqrt(self.moments[0] / self.moments[1])))
        score = float(np.clip(ratio / scale, -CLIP, CLIP))
        held = float(np.clip(ratio, -CLIP * scale, CLIP * scale))
        self.moments[:2] = SCALE_DECAY * self.moments[:2] + np.array([held * held, 1.0])
        self.moments[2] += 1
        if self.moments[2] < BLOCKS_TO_LEARN or self.careful[0]:
            self.up[0] = self.down[0] = 0.0
            return
        self.up[0] = max(0.0, self.up[0] + score - ALLOWANCE)
        self.down[0] = max(0.0, self.down[0] - score - ALLOWANCE)
        if max(self.up[0], self.down[0]) > THRESHOLD:
            self.up[0] = self.down[0] = 0.0
            self.careful[0] = CAREFUL_MINUTES
            self.alarms[0] += 1


def _closest_ratio(window: Window, typical: FloatArray) -> FloatArray:
    """log((B + c) / (E + c)) of the reference with the least absolute value, shape (new,); NaN where none is known."""
    day = np.nan_to_num(trailing_mean_new(window, MINUTES_PER_DAY))
    floor = 0.1 * day + 0.5 * typical / BLOCK_MINUTES
    now = trailing_mean_new(window, BLOCK_MINUTES)
    wide, half = 4 * BLOCK_MINUTES + BLOCK_MINUTES, 2 * BLOCK_MINUTES
    references = [
        trailing_mean_new(window, wide, MINUTES_PER_DAY - half),
        trailing_mean_new(window, wide, 7 * MINUTES_PER_DAY - half),
        same_time_mean(Window(window.values, window.first, window.minute), BLOCK_MINUTES, 7),
    ]
    ratios = np.log((now + floor) / (np.stack(references) + floor))
    best = np.argmin(np.nan_to_num(np.abs(ratios), nan=np.inf), axis=0)
    return np.asarray(np.take_along_axis(ratios, best[None], axis=0)[0], dtype=np.float64)
