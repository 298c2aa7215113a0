"""Minimum satisfactory shares: how many on-demand workers keep every deadline, in one pass over the promises.

A promise j needs `n` on-demand workers from now on, its *minimum satisfactory share* (ElasticFlow, ASPLOS'23): in
order of deadlines (EDF), the smallest n <= P_j with

    sum over time until D_j of min(n, free quota) >= W_j + (n - running_j) * o_j

where o = 2d + g pays one start, one preemption and one decision delay of every worker that does not run yet. Because a
promise in this order also covers all earlier segments of time, free quota never decreases with time, and a segment that
a promise exhausts stays exhausted: the fill costs O(number of promises), not O(promises x segments).
"""

from bisect import bisect_left
from dataclasses import dataclass
from math import inf

import numpy as np

from evalfleet_scaling.arrays import FloatArray, IntArray

ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Promises:
    """Claims on on-demand capacity, one row each. Seconds from now, GPU-seconds of an on-demand worker."""

    work: FloatArray
    width: FloatArray  # most workers at once, at least 1
    deadline: FloatArray  # seconds from now
    start_cost: FloatArray  # o: seconds each worker that does not run yet may lose
    running: FloatArray  # on-demand workers it has already
    running_delay: FloatArray  # start-up seconds still to come, summed over those

    def __len__(self) -> int:
        return len(self.work)

    def take(self, rows: IntArray) -> "Promises":
        """The given rows, in that order."""
        return Promises(*(getattr(self, name)[rows] for name in self.__slots__))

    def plus(self, other: "Promises") -> "Promises":
        """These rows followed by the other's."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__slots__)
        return Promises(*(np.concatenate(pair) for pair in pairs))

    def edf(self) -> IntArray:
        """Row numbers by deadline; earlier rows first on ties."""
        return np.argsort(self.deadline, kind="stable")


@dataclass(frozen=True, slots=True)
class Shares:
    """Outcome of a fill, one row per promise.

    `workers` is the minimum satisfactory share, `residual` the work that does not fit, `effective_seconds` how long the
    full width could run if it took everything that earlier deadlines leave.
    """

    workers: FloatArray
    residual: FloatArray
    effective_seconds: FloatArray


def minimum_satisfactory_shares(promises: Promises, quota: float, start: float = 0.0) -> Shares:
    """Fill the promises into `quota` workers from `start` seconds on."""
    if len(promises) == 0:
        return Shares(promises.work, promises.work, promises.work)
    order = promises.edf()
    ordered = promises.take(order)
    filled = _unsaturated(ordered, quota, start)
    if filled is None:
        fill = _Fill(quota, start)
        columns = (getattr(ordered, name).tolist() for name in Promises.__slots__)
        filled = np.array([fill.place(row) for row in zip(*columns, strict=True)], dtype=np.float64)
    result = np.empty_like(filled)
    result[order] = filled
    return Shares(result[:, 0], result[:, 1], result[:, 2])


def _unsaturated(promises: Promises, quota: float, start: float) -> FloatArray | None:
    """The fill in one array step where no segment of time is ever exhausted; None otherwise.

    Rows sorted by deadline; returns columns workers, residual, effective seconds. With N_i the workers taken by the
    first i promises, promise j finds quota + N_i - N_j free in the segment of time that ends with deadline i.
    """
    end = np.maximum(promises.deadline, start)
    seconds = end - start
    work = np.where(promises.work > 0, promises.work + promises.running_delay, 0.0)
    workers = _flat_workers(promises, work, seconds)
    taken = np.minimum(workers, promises.width).cumsum()
    if taken[-1] > quota:
        return None
    before = np.concatenate([[0.0], taken[:-1]])
    begins = np.concatenate([[start], end[:-1]])
    area = np.concatenate([[0.0], ((end - begins) * (quota + before)).cumsum()])
    enough = np.searchsorted(before, promises.width - quota + before, side="left")
    enough = np.minimum(enough, np.arange(len(end)))
    effective = (area[enough] - before * (begins[enough] - start)) / promises.width + (end - begins[enough])
    short = workers > promises.width + ROUNDING
    overhead = np.maximum(promises.width - promises.running, 0.0) * promises.start_cost
    residual = np.clip(work + overhead - effective * promises.width, 0.0, work)
    return np.column_stack([np.where(short, promises.width, workers), np.where(short, residual, 0.0), effective])


def _flat_workers(promises: Promises, work: FloatArray, seconds: FloatArray) -> FloatArray:
    """Workers that finish exactly at the deadline at a constant share; inf where none do."""
    useful = seconds - promises.start_cost
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # a hair of time left: inf workers
        simple = np.where(work > 0, work / seconds, 0.0)
        started = (work - promises.running * promises.start_cost) / useful
    workers = np.where(simple <= promises.running, simple, np.where(useful > 0, started, inf))
    return np.maximum(workers, 0.0)


class _Fill:
    """State of one fill: segments of time between deadlines, their free quota non-decreasing with time.

    Segment i has length `length[i]` and free quota `base[i] - taken`; those before `first` are exhausted. Prefix sums
    make the area under min(P, free) a binary search.
    """

    __slots__ = ("_area_sum", "_base", "_end", "_first", "_length_sum", "_quota", "_taken")

    def __init__(self, quota: float, start: float) -> None:
        self._quota = max(quota, 0.0)
        self._end = start
        self._taken = 0.0
        self._first = 0
        self._base: list[float] = []
        self._length_sum = [0.0]
        self._area_sum = [0.0]  # of length * base

    def place(self, row: tuple[float, ...]) -> tuple[float, float, float]:
        """Give a promise its minimum share, or all it can use: (workers, residual work, effective seconds)."""
        work, width, deadline, start_cost, running, delay = row
        self._extend(deadline)
        effective = self._area(width) / width
        if work <= 0:
            return 0.0, 0.0, effective
        work += delay
        workers = self._share(work, width, start_cost, running)
        if workers <= width + ROUNDING:
            self._take(workers)
            return workers, 0.0, effective
        overhead = max(width - running, 0.0) * start_cost
        self._take(width)
        return width, min(max(work + overhead - effective * width, 0.0), work), effective

    def _extend(self, deadline: float) -> None:
        length = deadline - self._end
        if length <= 0 or self._quota <= 0:
            return
        base = self._quota + self._taken
        self._base.append(base)
        self._length_sum.append(self._length_sum[-1] + length)
        self._area_sum.append(self._area_sum[-1] + length * base)
        self._end = deadline

    def _area(self, workers: float) -> float:
        """Integral of min(workers, free) over the open segments."""
        lengths, areas, first = self._length_sum, self._area_sum, self._first
        enough = bisect_left(self._base, workers + self._taken, lo=first)
        below = areas[enough] - areas[first] - self._taken * (lengths[enough] - lengths[first])
        return max(below, 0.0) + workers * (lengths[-1] - lengths[enough])

    def _share(self, work: float, width: float, start_cost: float, running: float) -> float:
        """Smallest n whose area covers the work and the starts beyond the running workers; inf when none does."""
        lengths, base = self._length_sum, self._base
        covered, total = 0.0, lengths[-1]
        for index in range(self._first, len(base)):
            seconds = total - lengths[index]
            workers = _workers_for(work - covered, seconds, start_cost, running)
            free = base[index] - self._taken
            if workers <= free + ROUNDING:
                return workers
            if free > width:
                return inf
            covered += (lengths[index + 1] - lengths[index]) * free
        return inf

    def _take(self, workers: float) -> None:
        self._taken += workers
        exhausted = self._taken + ROUNDING
        first, base = self._first, self._base
        while first < len(base) and base[first] <= exhausted:
            first += 1
        self._first = first


def _workers_for(work: float, seconds: float, start_cost: float, running: float) -> float:
    """Solve n * seconds = work + max(n - running, 0) * start_cost for n >= 0."""
    if work <= 0:
        return 0.0
    workers = work / seconds
    if workers <= running:
        return workers
    useful = seconds - start_cost
    return inf if useful <= 0 else max((work - running * start_cost) / useful, 0.0)
