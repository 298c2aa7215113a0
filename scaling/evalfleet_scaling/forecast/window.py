"""What a model sees of a series: the past it may need and the new minutes, one array; and rolling functions on it.

All of it works on any number of new minutes: one in the operator, hours in a replay, with the same result.
"""

from bisect import insort
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from evalfleet_scaling.forecast.interface import FloatArray, trailing_sum

FEW = 8


@dataclass(frozen=True, slots=True)
class Window:
    """Past and new minutes of one series.

    Attributes:
        values: shape (past + new,), demand per minute, NaN where nothing was observed.
        first: index of the first new minute in `values`.
        minute: number of `values[0]` since the Unix epoch.
    """

    values: FloatArray
    first: int
    minute: int

    @property
    def new(self) -> FloatArray:
        """The new minutes, shape (new,)."""
        return self.values[self.first :]

    def new_minutes(self) -> np.ndarray:
        """Numbers of the new minutes since the Unix epoch, shape (new,)."""
        return self.minute + np.arange(self.first, len(self.values))

    def tail(self, past: int) -> "Window":
        """The same new minutes with at most `past` minutes before them."""
        cut = max(0, self.first - past)
        return Window(self.values[cut:], self.first - cut, self.minute + cut)


def trailing_sum_new(window: Window, width: int) -> FloatArray:
    """Sum of the last `width` minutes at every new minute, shape (new,); NaN over a gap or before the start."""
    part = window.tail(width)
    return trailing_sum(part.values, width)[part.first :]


def trailing_mean_new(window: Window, width: int, shift: int = 0) -> FloatArray:
    """Mean of the observed minutes among the `width` minutes that end `shift` minutes ago; NaN where there are none.

    Shape (new,); a negative shift is not allowed, since it would look ahead.
    """
    if len(window.values) - window.first == 1:
        return np.array([_mean_of_observed(window.values, len(window.values) - shift, width)])
    part = window.tail(width + shift)
    observed = ~np.isnan(part.values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(observed, part.values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(observed)])
    end = np.arange(part.first, len(part.values)) + 1 - shift
    start = np.clip(end - width, 0, None)
    end = np.clip(end, 0, None)
    seen = counts[end] - counts[start]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(seen > 0, np.maximum(sums[end] - sums[start], 0.0) / seen, np.nan)


def _mean_of_observed(values: FloatArray, end: int, width: int) -> float:
    """The same for one minute, as the operator asks for it."""
    run = values[max(0, end - width) : max(0, end)]
    seen = run[~np.isnan(run)]
    return float(seen.sum()) / len(seen) if len(seen) else float("nan")


def trailing_max_new(sums: FloatArray, first: int, width: int) -> FloatArray:
    """Largest of the last `width` entries at every index from `first`, NaN entries ignored; 0 where all are NaN."""
    past = min(width - 1, first)
    padded = np.concatenate([np.full(width - 1 - past, -np.inf), np.nan_to_num(sums[first - past :], nan=-np.inf)])
    if len(sums) - first == 1:
        return np.array([max(0.0, float(padded.max()))])
    # Running maxima by blocks of `width` (van Herk): O(1) a minute whatever the width.
    blocks = -len(padded) % width
    grid = np.concatenate([padded, np.full(blocks, -np.inf)]).reshape(-1, width)
    forward = np.maximum.accumulate(grid, axis=1).ravel()
    backward = np.maximum.accumulate(grid[:, ::-1], axis=1)[:, ::-1].ravel()
    count = len(padded) - width + 1
    return np.maximum(0.0, np.maximum(backward[:count], forward[width - 1 : width - 1 + count]))


def rolling_rank(entries: FloatArray, ends: np.ndarray, width: int, level: float) -> FloatArray:
    """Quantile of the last `width` of `entries[:end]` for every `end` (not decreasing), shape (ends,).

    The conformal rank: interpolated a(k+1)-th smallest of k entries (Vovk; the largest when a(k+1) > k); NaN for k < 2.
    """
    out = np.full(len(ends), np.nan)
    full = ends >= width
    growing = np.flatnonzero(~full & (ends >= 2))
    if len(growing) > FEW:
        out[growing] = _growing_ranks(entries, ends[growing], level)
    else:
        out[growing] = [_one_rank(entries[: ends[position]], level) for position in growing]
    if len(ends) == 1 and full[0]:
        out[0] = _one_rank(entries[ends[0] - width : ends[0]], level)
    elif full.any():
        low = int(ends[full][0]) - width
        part = entries[low : int(ends[-1])]
        out[full] = _full_ranks(part, width, level)[ends[full] - width - low]
    return out


def _growing_ranks(entries: FloatArray, ends: np.ndarray, level: float) -> FloatArray:
    """`_one_rank` of `entries[:end]` for every one of many ends, each entry sorted in once."""
    rank = np.minimum(np.maximum(level * (ends + 1), 1.0), ends.astype(np.float64))
    lower = rank.astype(np.int64) - 1
    upper = np.minimum(lower + 1, ends - 1)
    around = np.empty((2, len(ends)), dtype=entries.dtype)
    held: list[float] = []
    known = 0
    for position, (end, below, above) in enumerate(zip(ends.tolist(), lower.tolist(), upper.tolist(), strict=True)):
        for entry in entries[known:end].tolist():
            insort(held, entry)
        known = end
        around[:, position] = held[below], held[above]
    share = (rank - rank.astype(np.int64)).astype(entries.dtype)
    return np.asarray(around[0] + share * (around[1] - around[0]), dtype=np.float64)


def _one_rank(entries: FloatArray, level: float) -> float:
    rank = min(max(level * (len(entries) + 1), 1.0), float(len(entries)))
    lower = int(rank) - 1
    upper = min(lower + 1, len(entries) - 1)
    part = np.partition(entries, (lower, upper))
    return float(part[lower] + (rank - int(rank)) * (part[upper] - part[lower]))


def _full_ranks(entries: FloatArray, width: int, level: float) -> FloatArray:
    """`_one_rank` of every run of `width` entries."""
    if len(entries) < width + FEW:
        return np.array([_one_rank(run, level) for run in sliding_window_view(entries, width)])
    from scipy.ndimage import rank_filter

    rank = min(max(level * (width + 1), 1.0), float(width))
    lower = int(rank) - 1
    upper = min(lower + 1, width - 1)
    half = width // 2
    inside = slice(half, half + len(entries) - width + 1)
    at_lower = rank_filter(entries, rank=lower, size=width)[inside]
    at_upper = rank_filter(entries, rank=upper, size=width)[inside]
    return np.asarray(at_lower + (rank - int(rank)) * (at_upper - at_lower), dtype=np.float64)
