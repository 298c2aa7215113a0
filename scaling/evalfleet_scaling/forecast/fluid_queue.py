"""Fluid queue of GPU-seconds behind a worker policy: start-up is paid, work is served first come, first served.

In minute t, of every scenario alike:

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
    Observation,
    PolicyFactory,
    Scenarios,
)

ROUNDING = 1e-9
"""Share of a worker that rounding errors may ask for without a worker being started."""
MOST_WORKERS = 1e9


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums per bucket of time and scenario, each of shape (buckets, scenarios).

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
    """Minute by minute, each of shape (minutes, scenarios): cumulative arrivals and served work, backlog, workers."""

    arrived: FloatArray
    served: FloatArray
    backlog: FloatArray
    running: FloatArray
    starting: FloatArray


class FluidQueue:
    """State of all scenarios; arrays of shape (scenarios,) except `ring`.

    `ring[m % size]` are the workers that begin to serve with minute m. How many there are, and what they can serve
    within the lead time, is kept up to date rather than summed: replays spend most of their time here.
    """

    def __init__(self, scenarios: Scenarios) -> None:
        self.lead = scenarios.lead_minutes
        self.size = int(self.lead.max()) + 1
        self.minute = 0
        self.ring = np.zeros((self.size, len(scenarios)))
        self.backlog, self.running, self.starting, self.pending_credit = np.zeros((4, len(scenarios)))

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

    def _give_up_starting(self, scenarios: IndexArray, target: FloatArray) -> None:
        minutes = np.arange(self.size)[:, None]
        slots = (self.minute + minutes) % self.size
        started = self.ring[slots, scenarios]
        before = self.running[scenarios] + np.cumsum(started, axis=0) - started
        kept = np.minimum(started, np.maximum(target - before, 0.0))
        self.ring[slots, scenarios] = kept
        self.starting[scenarios] = kept.sum(axis=0)
        self.pending_credit[scenarios] = WORKER_SECONDS * (np.maximum(self.lead[scenarios] - minutes, 0) * kept).sum(
            axis=0
        )


class Keep:
    """Ski rental: a worker is given up once it was not wanted for `keep_minutes`, the last added first.

    Worker k of a scenario is wanted while `wanted >= k`; so those to keep are the largest number wanted of late.
    Keeping an idle worker as long as its start-up cost, and no longer, costs at most twice the optimum, whatever comes
    (Karlin, Manasse, Rudolph and Sleator 1988).
    """

    def __init__(self, keep_minutes: IndexArray, kept: FloatArray | None = None) -> None:
        self.keep_minutes, self.at_once = keep_minutes, keep_minutes == 0
        self.size = int(keep_minutes.max()) + 1
        self.minute = 0
        self.ring = np.zeros((self.size, len(keep_minutes)))
        self.most = np.zeros(len(keep_minutes)) if kept is None else kept
        self.age = np.zeros(len(keep_minutes), dtype=np.int64)

    def target(self, wanted: FloatArray) -> FloatArray:
        """Largest number wanted within the last `keep_minutes`, shape (scenarios,)."""
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

    def _look_back(self, scenarios: IndexArray) -> None:
        """The largest of the ring, and how old its latest occurrence is."""
        ages = np.arange(self.size)[:, None]
        recent = self.ring[(self.minute - ages) % self.size, scenarios]
        recent = np.where(ages <= self.keep_minutes[scenarios], recent, -1.0)
        self.age[scenarios] = np.argmax(recent, axis=0)
        self.most[scenarios] = recent.max(axis=0)


@dataclass
class _Tally:
    """Adds up the totals while the queue runs."""

    scenarios: Scenarios
    totals: Totals
    arrived: FloatArray
    served: FloatArray

    def enter(self, minute: int, known: np.ndarray | float, queue: FluidQueue) -> None:
        """Add what the minute cost, and the lateness of the arrivals of tau minutes ago."""
        row = minute // self.totals.bucket_minutes
        self.totals.paid[row] += known * WORKER_SECONDS * (queue.running + queue.starting)
        self.totals.minutes[row] += known
        origin = minute - self.scenarios.tolerated_minutes
        if origin >= 0:
            row = origin // self.totals.bucket_minutes
            before = self.scenarios.per_scenario(self.arrived[origin])
            came = self.scenarios.per_scenario(self.arrived[origin + 1] - self.arrived[origin])
            self.totals.work[row] += came
            self.totals.late[row] += np.clip(before + came - self.served, 0.0, came)


class Replay:
    """A policy that runs over all scenarios, in one stretch or in several with a setting or a policy of their own."""

    def __init__(self, factory: PolicyFactory, scenarios: Scenarios, bucket_minutes: int = MINUTES_PER_DAY) -> None:
        values = np.stack([one.values for one in scenarios.series], axis=1)
        self.values, self.known = values, ~np.isnan(values)
        self.all_known = np.all(self.known, axis=1)
        self.filled = np.where(self.known, values, 0.0)
        arrived = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(self.filled, axis=0)])
        self.scenarios, self.policy = scenarios, factory(scenarios)
        self.queue, self.keep = FluidQueue(scenarios), Keep(scenarios.tuning.keep_minutes)
        self.tally = _Tally(
            scenarios, _empty(len(values), len(scenarios), bucket_minutes), arrived, np.zeros(len(scenarios))
        )
        self.minute = 0

    def become(self, factory: PolicyFactory, scenarios: Scenarios) -> None:
        """Go on with another policy or other settings on the same series and lead times; workers and backlog stay."""
        self.scenarios, self.policy = scenarios, factory(scenarios)
        self.keep = Keep(scenarios.tuning.keep_minutes, self.keep.most)

    def advance(self, stop: int | None = None, path: Path | None = None) -> Totals:
        """Run up to minute `stop` (default: the end); the sums so far.

        Raises:
            InvalidPolicyError: the policy wants a number of workers that is negative or not finite.
        """
        for minute in range(self.minute, len(self.values) if stop is None else min(stop, len(self.values))):
            self._minute(minute)
            if path is not None:
                _trace(path, minute, self.tally, self.queue)
            observed = _observe(minute, self.scenarios.per_scenario(self.values[minute]), self.queue)
            self.queue.resize(self.keep.target(_whole(self.policy.wanted(observed), len(self.scenarios))))
            self.minute = minute + 1
        return self.tally.totals

    def _minute(self, minute: int) -> None:
        self.tally.served = self.tally.served + self.queue.serve(self.scenarios.per_scenario(self.filled[minute]))
        known = 1.0 if self.all_known[minute] else self.scenarios.per_scenario(self.known[minute].astype(np.float64))
        self.tally.enter(minute, known, self.queue)


def replay(factory: PolicyFactory, scenarios: Scenarios, bucket_minutes: int = MINUTES_PER_DAY) -> Totals:
    """Run a policy over all scenarios from beginning to end and add up what it cost and what was late."""
    return Replay(factory, scenarios, bucket_minutes).advance()


def empty_path(scenarios: Scenarios) -> Path:
    """To be filled by `Replay.advance`, for few scenarios."""
    return Path(*(np.zeros((len(scenarios.series[0]), len(scenarios))) for _ in range(5)))


def _observe(minute: int, arrived: FloatArray, queue: FluidQueue) -> Observation:
    return Observation(minute, arrived, queue.backlog, queue.running, queue.starting, queue.pending_credit)


def _whole(wanted: FloatArray, scenarios: int) -> FloatArray:
    if wanted.shape != (scenarios,) or not np.isfinite(wanted).all() or wanted.min() < 0:
        raise InvalidPolicyError("a policy must want a finite number of workers, not negative, in every scenario")
    return np.minimum(np.ceil(wanted - ROUNDING), MOST_WORKERS)


def _empty(minutes: int, scenarios: int, bucket_minutes: int) -> Totals:
    buckets = -(-minutes // bucket_minutes)
    return Totals(bucket_minutes, *(np.zeros((buckets, scenarios)) for _ in range(4)))


def _trace(path: Path, minute: int, tally: _Tally, queue: FluidQueue) -> None:
    path.arrived[minute] = tally.scenarios.per_scenario(tally.arrived[minute + 1])
    path.served[minute] = tally.served
    path.backlog[minute] = queue.backlog
    path.running[minute] = queue.running
    path.starting[minute] = queue.starting


def waits(arrived: FloatArray, served: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Wait of every portion of work in minutes, and its GPU-seconds, from the cumulative curves of one scenario.

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
