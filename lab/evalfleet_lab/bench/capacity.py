"""Tables of the capacity strategies: cost against all-on-demand and against a planner that knows the future.

Every folder of traces below the data folder is one group: a group of single machines gives the single-slot table, a
group with counts the shardable table (one pool per run), and groups with prices the region tables, in which a run uses
all pools at once at their own prices. Without data the same tables are computed on synthetic pools.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalfleet_lab.bounds.linear import BoundJob, BoundMarket, linear_bound
from evalfleet_lab.bounds.slotwise import Windows, slotwise_bound
from evalfleet_lab.simulate.replay import Outcome, replay
from evalfleet_lab.simulate.scenario import Faults, JobShape, Scenario, region_scenario, single_pool_scenario
from evalfleet_lab.simulate.trace import SpotTrace
from evalfleet_lab.synthetic.capacity import SyntheticPool, synthetic_trace
from evalfleet_lab.traces.capacity import discover_spot_traces
from evalfleet_scaling.capacity.registry import STRATEGIES
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.model import StrategyName

PRICE_RATIO = 3.14  # on-demand over spot where a trace has no prices (p3.2xlarge: 3.06 over 0.975)
SHARDABLE_RATIOS = (1.25, 1.67, 2.5)  # deadline over the time that full width needs
SINGLE_SLOT_SHARES = (0.95, 0.9, 0.8, 0.7, 0.6, 0.5)  # work over time to the deadline
SEED = 20260101
Row = dict[str, str | int | float | None]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """How much to compute: windows per pool, of these how many with the slower bound of several pools."""

    starts: int = 300
    region_starts: int = 60
    quick: bool = False


FULL = Size()
QUICK = Size(starts=6, region_starts=6, quick=True)

# What goes wrong, by the name in the table; every case is run with the default strategy alone.
FAULTS: dict[str, Faults] = {
    "start-up 0.5-1.5x": Faults(startup_range=(0.5, 1.5), seed=SEED),
    "rate -20 %, found out": Faults(rate_factor=0.8, rate_unknown=True, seed=SEED),
    "start-up 0.5-1.5x and rate -20 %": Faults(startup_range=(0.5, 1.5), rate_factor=0.8, rate_unknown=True, seed=SEED),
    "30 launches seen, none failed": Faults(launches_before=30, seed=SEED),
    "on-demand launches fail p=0.5, unknown": Faults(launch_failure=0.5, seed=SEED),
    "on-demand launches fail p=0.5, 30 seen": Faults(launch_failure=0.5, launches_before=30, seed=SEED),
    "on-demand launches fail p=0.9, unknown": Faults(launch_failure=0.9, seed=SEED),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One column of a table: the runs, what they are called, and their bound per run."""

    table: str
    pool: str
    scenario: Scenario
    job: JobShape
    bound: np.ndarray


def capacity_rows(folder: Path | None, size: Size = FULL, progress: Progress | None = None) -> Iterator[list[Row]]:
    """Rows of all tables, cell by cell; `progress` is told what is computed next."""
    tell = progress or (lambda _: None)
    for name, traces in _groups(folder, size).items():
        for cell in _cells(name, traces, size):
            tell(f"{cell.table} {cell.pool}, deadline {cell.job.deadline_ratio:.2f}x, width {cell.job.width_factor}x")
            rows = [_row(cell, strategy) for strategy in STRATEGIES.values()]
            if cell.table == "shardable":
                rows += [_fault_row(cell, label, faults) for label, faults in FAULTS.items()]
            yield rows


def _groups(folder: Path | None, size: Size) -> dict[str, list[SpotTrace]]:
    traces = discover_spot_traces(folder) if folder is not None else []
    groups: dict[str, list[SpotTrace]] = {}
    for trace in traces:
        groups.setdefault(_short(trace.group), []).append(trace)
    if groups:
        # The most important tables first: wide pools, then narrow ones.
        return dict(sorted(groups.items(), key=lambda item: (-max(t.largest_count for t in item[1]), item[0])))
    ticks = 2016 if size.quick else 4032
    hours_and_price = ((8.0, 2.0, 1.1), (4.0, 4.0, 0.9), (1.5, 3.0, 0.8))
    pools = [
        SyntheticPool(f"synthetic-{index}", mean_up_seconds=up * 3600.0, mean_down_seconds=down * 3600.0, price=price)
        for index, (up, down, price) in enumerate(hours_and_price)
    ]
    made = [synthetic_trace(pool, ticks=ticks, tick_seconds=600.0, seed=SEED + i) for i, pool in enumerate(pools)]
    return {"synthetic": made}


def _short(group: str) -> str:
    """The part of the folder's name that says what it holds."""
    parts = [part for part in group.split("/") if part not in ("availability", "data", "traces")]
    return "/".join(parts[-2:]) or group


def _cells(name: str, traces: Sequence[SpotTrace], size: Size) -> Iterator[Cell]:
    most = max(trace.largest_count for trace in traces)
    priced = len(traces) > 1 and all(trace.prices is not None for trace in traces)
    if most == 1:
        yield from _single_slot_cells(name, traces, size)
        if priced:
            yield from _single_slot_region_cells(name, traces, size)
        return
    for factor in (1,) if size.quick else (1, 2):
        for ratio in SHARDABLE_RATIOS[:2] if size.quick else SHARDABLE_RATIOS:
            job = JobShape(most, 12.0, ratio, factor, 600.0)
            if _fits(traces, job):
                scenario = single_pool_scenario(traces, job, size.starts, spot_price=1.0, on_demand_price=PRICE_RATIO)
                yield Cell("shardable", f"{name} ({len(traces)} pools)", scenario, job, _bound(scenario))
    if len(traces) > 1:
        yield from _region_cells(name, traces, size, priced=priced)


def _single_slot_cells(name: str, traces: Sequence[SpotTrace], size: Size) -> Iterator[Cell]:
    for delay in (720.0,) if size.quick else (720.0, 180.0):
        for share in _shares(size, delay):
            job = JobShape(1, 12.0 if size.quick else 48.0, 1 / share, 1, delay)
            if _fits(traces, job):
                scenario = single_pool_scenario(traces, job, size.starts, spot_price=1.0, on_demand_price=PRICE_RATIO)
                yield Cell("single slot", f"{name} ({len(traces)} pools)", scenario, job, _bound(scenario))


def _shares(size: Size, delay: float) -> tuple[float, ...]:
    if size.quick:
        return (0.9,)
    return SINGLE_SLOT_SHARES if delay == 720.0 else (0.9, 0.7)


def _single_slot_region_cells(name: str, traces: Sequence[SpotTrace], size: Size) -> Iterator[Cell]:
    for share in (0.9,) if size.quick else (0.9, 0.8, 0.67, 0.5):
        job = JobShape(1, 12.0 if size.quick else 48.0, 1 / share, 1, 780.0)
        if _fits(traces, job):
            scenario = region_scenario(traces, job, size.region_starts, on_demand_price=_on_demand_price(traces))
            yield Cell("region, single slot", f"{name} (all {len(traces)})", scenario, job, _bound(scenario))


def _region_cells(name: str, traces: Sequence[SpotTrace], size: Size, *, priced: bool) -> Iterator[Cell]:
    most = max(trace.largest_count for trace in traces)
    on_demand = _on_demand_price(traces) if priced else PRICE_RATIO
    for factor in (1,) if size.quick else (1, 2):
        for ratio in SHARDABLE_RATIOS[:1] if size.quick else SHARDABLE_RATIOS:
            job = JobShape(most, 12.0, ratio, factor, 600.0)
            if _fits(traces, job):
                scenario = region_scenario(
                    traces, job, size.region_starts, on_demand_price=on_demand, spot_price=None if priced else 1.0
                )
                yield Cell("region", f"{name} (all {len(traces)})", scenario, job, _bound(scenario))


def _fits(traces: Sequence[SpotTrace], job: JobShape) -> bool:
    return all(job.deadline_ticks(trace.tick_seconds) <= len(trace.counts) for trace in traces)


def _on_demand_price(traces: Sequence[SpotTrace]) -> float:
    """On-demand price of a region: the ratio times the median of its pools' mean prices."""
    return PRICE_RATIO * float(np.median([trace.prices.mean() for trace in traces if trace.prices is not None]))


def _bound(scenario: Scenario) -> np.ndarray:
    """Least cost of every run; the linear programme one by one where the separation does not hold."""
    if scenario.width == 1 or scenario.counts.shape[2] == 1:
        return slotwise_bound(
            Windows(
                scenario.counts,
                scenario.spot_price,
                scenario.on_demand_price,
                scenario.work,
                scenario.width,
                scenario.tick_seconds,
                scenario.startup_seconds,
            )
        )
    return np.array([_linear(scenario, run) for run in range(scenario.counts.shape[1])])


def _linear(scenario: Scenario, run: int) -> float:
    market = BoundMarket(
        scenario.counts[:, run],
        scenario.spot_price[:, run],
        scenario.on_demand_price,
        scenario.tick_seconds,
        scenario.startup_seconds,
    )
    return linear_bound(market, [BoundJob(float(scenario.work[run]), scenario.width, 0, scenario.deadline_ticks)])


def _row(cell: Cell, strategy: Strategy) -> Row:
    return _summary(cell, str(strategy.name), replay(cell.scenario, strategy), cell.table)


def _fault_row(cell: Cell, label: str, faults: Faults) -> Row:
    outcome = replay(cell.scenario, STRATEGIES[StrategyName.ELASTIC_AUTO], faults)
    return _summary(cell, f"{StrategyName.ELASTIC_AUTO}: {label}", outcome, "faults")


def _summary(cell: Cell, strategy: str, outcome: Outcome, table: str) -> Row:
    cost, on_demand, bound = float(outcome.cost.mean()), float(outcome.on_demand_cost.mean()), float(cell.bound.mean())
    ratio = outcome.cost / outcome.on_demand_cost
    finished = np.where(np.isfinite(outcome.finish_seconds), outcome.lateness_seconds, np.nan)
    busy = outcome.on_demand_seconds.sum()
    late = float(np.nanmax(finished)) if np.isfinite(finished).any() else None
    # A bound of the plan does not bind where more work turned out to be needed.
    comparable = table != "faults" or "rate" not in strategy
    return {
        "table": table,
        "pool": cell.pool,
        "strategy": strategy,
        "deadlineRatio": round(cell.job.deadline_ratio, 3),
        "widthFactor": cell.job.width_factor,
        "delaySeconds": cell.job.startup_seconds,
        "starts": cell.scenario.counts.shape[1],
        "costOverOnDemand": round(cost / on_demand, 4),
        "costOverBound": round(cost / bound, 4) if comparable else None,
        "attainedSaving": round((on_demand - cost) / (on_demand - bound), 4) if comparable else None,
        "missed": int(outcome.missed.sum()),
        "maxLatenessSeconds": None if late is None else round(late, 1),
        "neverFinished": int((~np.isfinite(outcome.finish_seconds)).sum()),
        "p75CostOverOnDemand": round(float(np.quantile(ratio, 0.75)), 4),
        "worst1PercentCostOverOnDemand": round(float(np.quantile(ratio, 0.99)), 4),
        "onDemandShare": round(float(busy / max(busy + _spot_seconds(outcome), 1.0)), 4),
        "preemptionsPerRun": round(float(outcome.preemptions.mean()), 2),
        "startupHoursPerRun": round(float(outcome.startup_seconds.mean()) / 3600.0, 2),
    }


def _spot_seconds(outcome: Outcome) -> float:
    return float(outcome.spot_seconds.sum())
