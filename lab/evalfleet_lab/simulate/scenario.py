"""What is replayed: windows of spot traces, a job, and what goes wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_lab.simulate.trace import FloatArray, IntArray, SpotTrace, evenly_spaced_starts
from evalfleet_scaling.errors import InvalidObservationError

STEADY_STARTUPS = 2.0  # an offer is steady when it has stood for this many start-ups


@dataclass(frozen=True, slots=True)
class Scenario:
    """J runs of one kind of job, each over its own window of T ticks on Zs spot pools and one on-demand pool."""

    tick_seconds: float
    counts: IntArray  # [T, J, Zs] spot workers obtainable
    steady: IntArray  # [T, J, Zs] obtainable without a break for STEADY_STARTUPS start-ups
    spot_price: FloatArray  # [T, J, Zs] per hour
    on_demand_price: float
    work: FloatArray  # [J] GPU-seconds as planned
    deadline_ticks: int
    width: int
    startup_seconds: float


@dataclass(frozen=True, slots=True)
class Faults:
    """What the plan does not know; by default all keeps to the plan."""

    startup_range: tuple[float, float] = (1.0, 1.0)  # true start-up as a multiple of the planned, uniform
    launch_failure: float = 0.0  # probability that a launch on the on-demand pool fails; seen one tick later
    launches_before: int = 0  # launches the policy has seen on that pool before the job, with the same probability
    rate_factor: float = 1.0  # true rate of a worker as a multiple of the planned
    rate_unknown: bool = False  # the rate is estimated from what was measured, beginning with the plan
    seed: int = 0


@dataclass(frozen=True, slots=True)
class JobShape:
    """A shardable job: `gpus` for `hours` of work, to be done within `deadline_ratio` times that."""

    gpus: int
    hours: float = 12.0
    deadline_ratio: float = 1.25
    width_factor: int = 1
    startup_seconds: float = 600.0

    def deadline_ticks(self, tick_seconds: float) -> int:
        """Whole ticks until the deadline."""
        return round(self.hours * 3600.0 * self.deadline_ratio / tick_seconds)


def steady_counts(trace: SpotTrace, seconds: float) -> IntArray:
    """[T] least count over the last `seconds` before and including every tick; 0 before the trace began."""
    window = round(seconds / trace.tick_seconds) + 1
    padded = np.concatenate([np.zeros(window - 1, dtype=np.int64), trace.counts])
    result: IntArray = np.lib.stride_tricks.sliding_window_view(padded, window).min(axis=1)
    return result


def single_pool_scenario(
    traces: Sequence[SpotTrace], job: JobShape, starts: int, *, spot_price: float, on_demand_price: float
) -> Scenario:
    """`starts` windows of every trace, each run on one spot pool alone; runs are ordered by trace, then start."""
    ticks = job.deadline_ticks(traces[0].tick_seconds)
    counts, steady = [], []
    for trace in traces:
        lasting = steady_counts(trace, STEADY_STARTUPS * job.startup_seconds)
        for start in evenly_spaced_starts(len(trace.counts), ticks, starts):
            counts.append(trace.counts[start : start + ticks])
            steady.append(lasting[start : start + ticks])
    stacked = np.stack(counts, axis=1)[:, :, None]
    price = np.full(stacked.shape, spot_price)
    return _scenario(traces[0], job, (stacked, np.stack(steady, axis=1)[:, :, None], price), on_demand_price)


def region_scenario(
    traces: Sequence[SpotTrace], job: JobShape, starts: int, *, on_demand_price: float, spot_price: float | None = None
) -> Scenario:
    """`starts` windows over all traces together, each run sees every pool at its own price (or one for all)."""
    length = min(len(trace.counts) for trace in traces)
    ticks = job.deadline_ticks(traces[0].tick_seconds)
    lasting = [steady_counts(trace, STEADY_STARTUPS * job.startup_seconds) for trace in traces]
    counts, steady, prices = [], [], []
    for start in evenly_spaced_starts(length, ticks, starts):
        span = slice(int(start), int(start) + ticks)
        counts.append(np.stack([trace.counts[span] for trace in traces], axis=1))
        steady.append(np.stack([one[span] for one in lasting], axis=1))
        prices.append(np.stack([_prices(trace, span, spot_price) for trace in traces], axis=1))
    arrays = (np.stack(counts, axis=1), np.stack(steady, axis=1), np.stack(prices, axis=1))
    return _scenario(traces[0], job, arrays, on_demand_price)


def _prices(trace: SpotTrace, span: slice, one_price: float | None) -> FloatArray:
    if one_price is not None:
        return np.full(span.stop - span.start, one_price)
    if trace.prices is None:
        raise InvalidObservationError(f"trace {trace.name} has no prices: give one spot price for all pools")
    return trace.prices[span]


def _scenario(
    trace: SpotTrace, job: JobShape, arrays: tuple[IntArray, IntArray, FloatArray], on_demand_price: float
) -> Scenario:
    counts, steady, price = arrays
    return Scenario(
        tick_seconds=trace.tick_seconds,
        counts=counts,
        steady=steady,
        spot_price=price,
        on_demand_price=on_demand_price,
        work=np.full(counts.shape[1], job.gpus * job.hours * 3600.0),
        deadline_ticks=job.deadline_ticks(trace.tick_seconds),
        width=job.gpus * job.width_factor,
        startup_seconds=job.startup_seconds,
    )
