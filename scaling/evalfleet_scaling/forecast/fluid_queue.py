"""Fluid queue of GPU-seconds behind a worker policy: start-up is paid, work is served first come, first served.

In minute t, of every lane alike:

    ready(t)   = workers ordered at the end of minute t - 1 - lead
    served(t)  = min(backlog(t-1) + arrived(t), 60 running(t))
    backlog(t) = backlog(t-1) + arrived(t) - served(t)
    paid(t)    = 60 (running(t) + starting(t))                                GPU-seconds
    late(k)    = arrivals of minute k not served by the end of minute k + tau  (wait > tau)

Work is a fluid: a job is served by any number of workers at once and in any portion, so that the queue favours no
policy by how jobs happen to fall. Nothing is lost: arrivals = served + backlog at any time. A minute that nobody
observed brings no arrivals and is counted in no figure; what ran on in it is served as always.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.policy import (
    WORKER_SECONDS,
    IndexArray,
    InvalidPolicyError,
    Lanes,
    Observation,
    PolicyFactory,
)

ROUNDING = 1e-9
"""Share of a worker that rounding errors may ask for without a worker being started."""
MOST_WORKERS = 1e9


@dataclass(frozen=True, slots=True)
class Ledger:
    """Sums per bucket of time and lane, each of shape (buckets, lanes).

    Attributes:
        bucket_minutes: length of a bucket; the last one may be shorter.
        work: GPU-seconds arrived, except in the last tau minutes, whose lateness is not known yet.
        late: part of `work` that waited longer than tau.
        paid: GPU-seconds paid for, start-up and idle time included.
        minutes: observed minutes.
    """

    bucket_minutes: int
    work: FloatArray
    late: FloatArray
    paid: FloatArray
    minutes: FloatArray


@dataclass(frozen=True, slots=True)
class Path:
    """Minute by minute, each of shape (minutes, lanes): cumulative arrivals and served work, backlog, workers."""

    arrived: FloatArray
    served: FloatArray
    backlog: FloatArray
    running: FloatArray
    starting: FloatArray


class FluidQueue:
    """State of all lanes; arrays of shape (lanes,) except `ring`.

    `ring[m % size]` are the workers that begin to serve with minute m. How many there are, and what they can serve
    within the lead time, is kept up to date rather than summed: replays spend most of their time here.
    """

    def __init__(self, lanes: Lanes) -> None:
        self.lead = lanes.lead_minutes
        self.size = int(self.lead.max()) + 1
        self.minute = 0
        self.ring = np.zeros((self.size, len(lanes)))
        self.backlog, self.running, self.starting, self.pending_credit = np.zeros((4, len(lanes)))

    def serve(self, arrived: FloatArray) -> FloatArray:
        """One minute passes: workers become ready, work arrives and is served; GPU-seconds served."""
        slot = self.minute % self.size
        ready = self.ring[slot].copy()
        self.ring[slot] = 0.0
        self.minute += 1
        self.running = self.running + ready
        self.starting = self.starting - ready
        self.pending_credit = self.pending_credit + WORKER_SECONDS * (self.starting - self.lead * ready)
        work = self.backlog + arrived
        served = np.minimum(work, WORKER_SECONDS * self.running)
        self.backlog = work - served
        return served

    def resize(self, target: FloatArray) -> None:
        """Order what is missing to `target` workers, give up what is too much, the newest first."""
        total = self.running + self.starting
        more = np.flatnonzero(target > total)
        if len(more):
            ordered = target[more] - total[more]
            self.ring[(self.minute + self.lead[more]) % self.size, more] += ordered
            self.starting[more] += ordered
        unborn = np.flatnonzero((target < total) & (self.starting > 0))
        self.running = np.minimum(self.running, target)
        if len(unborn):
            self._give_up_starting(unborn, target[unborn])

    def _give_up_starting(self, lanes: IndexArray, target: FloatArray) -> None:
        minutes = np.arange(self.size)[:, None]
        slots = (self.minute + minutes) % self.size
        started = self.ring[slots, lanes]
        before = self.running[lanes] + np.cumsum(started, axis=0) - started
        kept = np.minimum(started, np.maximum(target - before, 0.0))
        self.ring[slots, lanes] = kept
        self.starting[lanes] = kept.sum(axis=0)
        self.pending_credit[lanes] = WORKER_SECONDS * (np.maximum(self.lead[lanes] - minutes, 0) * kept).sum(axis=0)


class Keep:
    """Ski rental: a worker is given up once it was not wanted for `keep_minutes`, the last added first.

    Worker k of a lane is wanted while `wanted >= k`; so those to keep are the largest number wanted of late. Keeping an
    idle worker as long as its start-up cost, and no longer, costs at most twice the optimum, whatever comes (Karlin,
    Manasse, Rudolph and Sleator 1988).
    """

    def __init__(self, keep_minutes: IndexArray, kept: FloatArray | None = None) -> None:
        self.keep_minutes, self.at_once = keep_minutes, keep_minutes == 0
        self.size = int(keep_minutes.max()) + 1
        self.minute = 0
        self.ring = np.zeros((self.size, len(keep_minutes)))
        self.most = np.zeros(len(keep_minutes)) if kept is None else kept
        self.age = np.zeros(len(keep_minutes), dtype=np.int64)

    def target(self, wanted: FloatArray) -> FloatArray:
        """Largest number wanted within the last `keep_minutes`, shape (lanes,)."""
        self.ring[self.minute % self.size] = wanted
        self.age += 1
        higher = (wanted >= self.most) | self.at_once
        self.most = np.where(higher, wanted, self.most)
        self.age[higher] = 0
        expired = np.flatnonzero(self.age > self.keep_minutes)
        if len(expired):
            self._look_back(expired)
        self.minute += 1
        return self.most

    def _look_back(self, lanes: IndexArray) -> None:
        """The largest of the ring, and how old its latest occurrence is."""
        ages = np.arange(self.size)[:, None]
        recent = self.ring[(self.minute - ages) % self.size, lanes]
        recent = np.where(ages <= self.keep_minutes[lanes], recent, -1.0)
        self.age[lanes] = np.argmax(recent, axis=0)
        self.most[lanes] = recent.max(axis=0)


@dataclass
class _Books:
    """Fills a ledger while the queue runs."""

    lanes: Lanes
    ledger: Ledger
    arrived: FloatArray
    served: FloatArray

    def enter(self, minute: int, seen: np.ndarray | float, queue: FluidQueue) -> None:
        """Add what the minute cost, and the lateness of the arrivals of tau minutes ago."""
        row = minute // self.ledger.bucket_minutes
        self.ledger.paid[row] += seen * WORKER_SECONDS * (queue.running + queue.starting)
        self.ledger.minutes[row] += seen
        origin = minute - self.lanes.tolerated_minutes
        if origin >= 0:
            row = origin // self.ledger.bucket_minutes
            before = self.lanes.per_lane(self.arrived[origin])
            came = self.lanes.per_lane(self.arrived[origin + 1] - self.arrived[origin])
            self.ledger.work[row] += came
            self.ledger.late[row] += np.clip(before + came - self.served, 0.0, came)


class Replay:
    """A policy that runs over all lanes, in one stretch or in several with other settings or another policy each."""

    def __init__(self, factory: PolicyFactory, lanes: Lanes, bucket_minutes: int = MINUTES_PER_DAY) -> None:
        values = np.stack([one.values for one in lanes.series], axis=1)
        self.values, self.known = values, ~np.isnan(values)
        self.all_known = np.all(self.known, axis=1)
        self.filled = np.where(self.known, values, 0.0)
        arrived = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(self.filled, axis=0)])
        self.lanes, self.policy = lanes, factory(lanes)
        self.queue, self.keep = FluidQueue(lanes), Keep(lanes.tuning.keep_minutes)
        self.books = _Books(lanes, _empty(len(values), len(lanes), bucket_minutes), arrived, np.zeros(len(lanes)))
        self.minute = 0

    def become(self, factory: PolicyFactory, lanes: Lanes) -> None:
        """Go on with another policy or other settings on the same series and lead times; workers and backlog stay."""
        self.lanes, self.policy = lanes, factory(lanes)
        self.keep = Keep(lanes.tuning.keep_minutes, self.keep.most)

    def advance(self, stop: int | None = None, path: Path | None = None) -> Ledger:
        """Run up to minute `stop` (default: the end); the sums so far.

        Raises:
            InvalidPolicyError: the policy wants a number of workers that is negative or not finite.
        """
        for minute in range(self.minute, len(self.values) if stop is None else min(stop, len(self.values))):
            self._minute(minute)
            if path is not None:
                _trace(path, minute, self.books, self.queue)
            seen = _observe(minute, self.lanes.per_lane(self.values[minute]), self.queue)
            self.queue.resize(self.keep.target(_whole(self.policy.wanted(seen), len(self.lanes))))
            self.minute = minute + 1
        return self.books.ledger

    def _minute(self, minute: int) -> None:
        self.books.served = self.books.served + self.queue.serve(self.lanes.per_lane(self.filled[minute]))
        seen = 1.0 if self.all_known[minute] else self.lanes.per_lane(self.known[minute].astype(np.float64))
        self.books.enter(minute, seen, self.queue)


def replay(factory: PolicyFactory, lanes: Lanes, bucket_minutes: int = MINUTES_PER_DAY) -> Ledger:
    """Run a policy over all lanes from beginning to end and add up what it cost and what was late."""
    return Replay(factory, lanes, bucket_minutes).advance()


def empty_path(lanes: Lanes) -> Path:
    """To be filled by `Replay.advance`, for few lanes."""
    return Path(*(np.zeros((len(lanes.series[0]), len(lanes))) for _ in range(5)))


def _observe(minute: int, arrived: FloatArray, queue: FluidQueue) -> Observation:
    return Observation(minute, arrived, queue.backlog, queue.running, queue.starting, queue.pending_credit)


def _whole(wanted: FloatArray, lanes: int) -> FloatArray:
    if wanted.shape != (lanes,) or not np.isfinite(wanted).all() or wanted.min() < 0:
        raise InvalidPolicyError("a policy must want a finite number of workers, not negative, in every lane")
    return np.minimum(np.ceil(wanted - ROUNDING), MOST_WORKERS)


def _empty(minutes: int, lanes: int, bucket_minutes: int) -> Ledger:
    buckets = -(-minutes // bucket_minutes)
    return Ledger(bucket_minutes, *(np.zeros((buckets, lanes)) for _ in range(4)))


def _trace(path: Path, minute: int, books: _Books, queue: FluidQueue) -> None:
    path.arrived[minute] = books.lanes.per_lane(books.arrived[minute + 1])
    path.served[minute] = books.served
    path.backlog[minute] = queue.backlog
    path.running[minute] = queue.running
    path.starting[minute] = queue.starting


def waits(arrived: FloatArray, served: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Wait of every portion of work in minutes, and its GPU-seconds, from the cumulative curves of one lane.

    First come, first served: the work between two successive points of either curve arrived in one minute and was
    served in one minute. What is never served waits until the end.
    """
    points = np.unique(np.concatenate([[0.0], arrived, served]))
    sizes = np.diff(points)
    middle = points[:-1] + sizes / 2
    came = np.searchsorted(arrived, middle)
    left = np.searchsorted(served, middle)
    return np.maximum(left - came, 0).astype(np.float64), sizes


def weighted_quantile(values: FloatArray, weights: FloatArray, level: float) -> float:
    """Smallest value at or below which a share `level` of the weight lies; 0 without weight."""
    total = weights.sum()
    if total <= 0:
        return 0.0
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / total
    return float(values[order][min(int(np.searchsorted(share, level - ROUNDING)), len(order) - 1)])
