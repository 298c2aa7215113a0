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

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.policy import (
    WORKER_SECONDS,
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
        under: minutes in which the running workers could not clear the backlog within tau.
        over: minutes in which at least one running worker had nothing to do.
        minutes: observed minutes.
    """

    bucket_minutes: int
    work: FloatArray
    late: FloatArray
    paid: FloatArray
    under: FloatArray
    over: FloatArray
    minutes: FloatArray


@dataclass(frozen=True, slots=True)
class Path:
    """Minute by minute, each of shape (minutes, lanes): cumulative arrivals and served work, workers."""

    arrived: FloatArray
    served: FloatArray
    running: FloatArray
    starting: FloatArray


@dataclass
class FluidQueue:
    """State of all lanes. `pipeline[j]` are workers that begin to serve after j more minutes."""

    lanes: Lanes
    backlog: FloatArray = field(init=False)
    running: FloatArray = field(init=False)
    pipeline: FloatArray = field(init=False)
    credit: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        count, longest = len(self.lanes), int(self.lanes.lead_minutes.max())
        self.backlog = np.zeros(count)
        self.running = np.zeros(count)
        self.pipeline = np.zeros((longest + 1, count))
        left = np.maximum(self.lanes.lead_minutes - np.arange(longest + 1)[:, None], 0)
        self.credit = WORKER_SECONDS * left.astype(np.float64)

    @property
    def starting(self) -> FloatArray:
        """Workers ordered and not yet serving, shape (lanes,)."""
        return np.asarray(self.pipeline.sum(axis=0))

    @property
    def pending_credit(self) -> FloatArray:
        """GPU-seconds that starting workers can serve within the next lead time, shape (lanes,)."""
        return np.asarray((self.credit * self.pipeline).sum(axis=0))

    def serve(self, arrived: FloatArray) -> FloatArray:
        """One minute passes: workers become ready, work arrives and is served; GPU-seconds served."""
        self.running = self.running + self.pipeline[0]
        self.pipeline[:-1] = self.pipeline[1:]
        self.pipeline[-1] = 0.0
        work = self.backlog + arrived
        served = np.minimum(work, WORKER_SECONDS * self.running)
        self.backlog = work - served
        return served

    def resize(self, target: FloatArray) -> None:
        """Order what is missing to `target` workers, give up what is too much, the newest first."""
        before = self.running + np.cumsum(self.pipeline, axis=0) - self.pipeline
        total = before[-1] + self.pipeline[-1]
        self.pipeline = np.minimum(self.pipeline, np.maximum(target - before, 0.0))
        self.running = np.minimum(self.running, target)
        self.pipeline[self.lanes.lead_minutes, np.arange(len(target))] += np.maximum(target - total, 0.0)


@dataclass
class Keep:
    """Ski rental: a worker is given up once it was not wanted for `keep_minutes`, the last added first.

    Worker k of a lane is wanted while `wanted >= k`; so those to keep are the largest number wanted of late.
    """

    lanes: Lanes
    recent: FloatArray = field(init=False)
    ages: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        longest = int(self.lanes.tuning.keep_minutes.max()) + 1
        self.recent = np.zeros((longest, len(self.lanes)))
        self.ages = np.arange(longest)[:, None] <= self.lanes.tuning.keep_minutes

    def target(self, wanted: FloatArray) -> FloatArray:
        """Largest number wanted within the last `keep_minutes`, shape (lanes,)."""
        self.recent[1:] = self.recent[:-1]
        self.recent[0] = wanted
        return np.asarray(np.max(self.recent, axis=0, where=self.ages, initial=0.0))


@dataclass
class _Books:
    """Fills a ledger while the queue runs."""

    lanes: Lanes
    ledger: Ledger
    arrived: FloatArray
    served: FloatArray

    def enter(self, minute: int, seen: bool | np.ndarray, queue: FluidQueue, idle: FloatArray) -> None:
        """Add the figures of a minute, and the lateness of the arrivals of tau minutes ago."""
        tau = self.lanes.tolerated_minutes
        row = minute // self.ledger.bucket_minutes
        paid = WORKER_SECONDS * (queue.running + queue.starting)
        self.ledger.paid[row] += seen * paid
        self.ledger.under[row] += seen * (queue.backlog > WORKER_SECONDS * queue.running * tau + ROUNDING)
        self.ledger.over[row] += seen * (idle >= WORKER_SECONDS)
        self.ledger.minutes[row] += seen
        origin = minute - tau
        if origin >= 0:
            upto = self.lanes.per_lane(self.arrived[origin + 1])
            before = self.lanes.per_lane(self.arrived[origin])
            row = origin // self.ledger.bucket_minutes
            self.ledger.work[row] += upto - before
            self.ledger.late[row] += np.maximum(upto - np.maximum(self.served, before), 0.0)


def replay(factory: PolicyFactory, lanes: Lanes, bucket_minutes: int = MINUTES_PER_DAY) -> Ledger:
    """Run a policy over all lanes and add up what it cost and what was late.

    Raises:
        InvalidPolicyError: the policy wants a number of workers that is negative or not finite.
    """
    return _run(factory, lanes, bucket_minutes, None)


def replay_path(factory: PolicyFactory, lanes: Lanes, bucket_minutes: int = MINUTES_PER_DAY) -> tuple[Ledger, Path]:
    """As `replay`, with every minute kept; for few lanes."""
    minutes = len(lanes.series[0])
    path = Path(*(np.zeros((minutes, len(lanes))) for _ in range(4)))
    return _run(factory, lanes, bucket_minutes, path), path


def _run(factory: PolicyFactory, lanes: Lanes, bucket_minutes: int, path: Path | None) -> Ledger:
    values = np.stack([one.values for one in lanes.series], axis=1)
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    arrived = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(filled, axis=0)])
    policy, queue, keep = factory(lanes), FluidQueue(lanes), Keep(lanes)
    books = _Books(lanes, _empty(len(values), len(lanes), bucket_minutes), arrived, np.zeros(len(lanes)))
    for minute in range(len(values)):
        served = queue.serve(lanes.per_lane(filled[minute]))
        books.served = books.served + served
        books.enter(minute, lanes.per_lane(known[minute]), queue, WORKER_SECONDS * queue.running - served)
        if path is not None:
            _trace(path, minute, books, queue)
        wanted = _whole(policy.wanted(_observe(minute, lanes.per_lane(values[minute]), queue)), len(lanes))
        queue.resize(keep.target(wanted))
    return books.ledger


def _observe(minute: int, arrived: FloatArray, queue: FluidQueue) -> Observation:
    return Observation(minute, arrived, queue.backlog, queue.running, queue.starting, queue.pending_credit)


def _whole(wanted: FloatArray, lanes: int) -> FloatArray:
    if wanted.shape != (lanes,) or not np.isfinite(wanted).all() or wanted.min() < 0:
        raise InvalidPolicyError("a policy must want a finite number of workers, not negative, in every lane")
    return np.minimum(np.ceil(wanted - ROUNDING), MOST_WORKERS)


def _empty(minutes: int, lanes: int, bucket_minutes: int) -> Ledger:
    buckets = -(-minutes // bucket_minutes)
    return Ledger(bucket_minutes, *(np.zeros((buckets, lanes)) for _ in range(6)))


def _trace(path: Path, minute: int, books: _Books, queue: FluidQueue) -> None:
    path.arrived[minute] = books.lanes.per_lane(books.arrived[minute + 1])
    path.served[minute] = books.served
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
