"""Running statistics that take one minute or many at once with the same result, and can be saved and restored.

Each is a small recursion with its memory in numpy arrays; a NaN input is a gap: the memory ages, the value holds.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.signal import lfilter

from evalfleet_scaling.forecast.interface import FloatArray

FORGOTTEN = 1e-200
"""Below this weight a mean has forgotten everything and holds its last value."""


def decay_of_half_life(minutes: float) -> float:
    """Factor per minute of a weight that halves every `minutes`."""
    return float(0.5 ** (1.0 / minutes))


@dataclass
class DiscountedMean:
    """Mean with exponentially fading weights of several columns, each with its own decay; unbiased from the start.

    m_t = sum_k d^k x_{t-k} / sum_k d^k over observed minutes; simple exponential smoothing is d = 1 - alpha.
    """

    decay: FloatArray
    total: FloatArray = field(init=False)
    weight: FloatArray = field(init=False)
    last: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros_like(self.decay)
        self.weight = np.zeros_like(self.decay)
        self.last = np.full_like(self.decay, np.nan)

    def advance(self, values: FloatArray) -> FloatArray:
        """Take new rows, shape (new, columns); return the mean after each, NaN while nothing was observed."""
        observed = ~np.isnan(values)
        if len(values) == 1:
            self.total = self.decay * self.total + np.where(observed[0], values[0], 0.0)
            self.weight = self.decay * self.weight + observed[0]
            totals, weights = self.total[None], self.weight[None]
        else:
            totals, weights = np.empty_like(values), np.empty_like(values)
            filled, seen = np.where(observed, values, 0.0), observed.astype(np.float64)
            for column, decay in enumerate(self.decay):
                totals[:, column] = _recursion(filled[:, column], decay, self.total[column])
                weights[:, column] = _recursion(seen[:, column], decay, self.weight[column])
            self.total, self.weight = totals[-1].copy(), weights[-1].copy()
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(weights > FORGOTTEN, totals / weights, np.nan)
        means = hold(means, self.last)
        self.last = means[-1].copy()
        return means


def _recursion(values: FloatArray, decay: float, start: float) -> FloatArray:
    out, _ = lfilter([1.0], [1.0, -decay], values, zi=[decay * start])
    return np.asarray(out, dtype=np.float64)


def hold(values: FloatArray, last: FloatArray) -> FloatArray:
    """Fill NaN by the latest number above it in the same column, at the top by `last`; shape (rows, columns)."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    stacked = np.concatenate([last[None], values])
    rows = np.arange(len(stacked))[:, None]
    latest = np.maximum.accumulate(np.where(np.isnan(stacked), 0, rows), axis=0)
    return np.asarray(np.take_along_axis(stacked, latest, axis=0)[1:], dtype=np.float64)


@dataclass
class Delay:
    """Gives back each row `minutes` rows later; NaN at first. Rows have any fixed shape."""

    minutes: int
    shape: tuple[int, ...]
    waiting: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.waiting = np.full((self.minutes, *self.shape), np.nan)

    def advance(self, rows: FloatArray) -> FloatArray:
        """Take rows (new, ...), return as many delayed ones."""
        stacked = np.concatenate([self.waiting, rows])
        self.waiting = stacked[len(rows) :].copy()
        return stacked[: len(rows)]
