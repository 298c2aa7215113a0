"""Multi-job replay on a mixed fleet, money limits, and the speed of a fleet decision.

Streams and spot counts are whatever the data folder holds; without it a synthetic stream and synthetic zones. Every
number of a scenario follows from the stream: on-demand quota and mean spot capacity are each three quarters of its mean
load, so that neither alone is enough.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from math import ceil, isfinite
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np

from evalfleet_lab.bench import fleet_peers
from evalfleet_lab.simulate.fleet_replay import (
    Decide,
    FleetOutcome,
    FleetScenario,
    JobRecord,
    SubmittedJob,
    replay_fleet,
)
from evalfleet_lab.traces.capacity import data_folder, discover_spot_traces
from evalfleet_lab.traces.jobs import JobTrace, discover_job_traces
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import (
    Budget,
    CapacityType,
    FleetSnapshot,
    Job,
    Limits,
    OnConflict,
    Pool,
    PoolObservation,
    Worker,
)

SEED = 20240517
STARTUP_SECONDS = 300.0
TICK_SECONDS = 300.0
ON_DEMAND_OVER_SPOT = 3.14  # as in the capacity tables
_LOAD_SHARE = 0.75
_QUEUE_WAIT_SECONDS = 1800.0
_MOST_JOBS = {True: 120, False: 800}  # of a stream, from its beginning
Row = dict[str, Any]
Tell = Callable[[str], None]

POLICIES: tuple[tuple[str, Decide], ...] = (
    ("evalfleet", fleet_peers.evalfleet),
    ("EDF on-demand", fleet_peers.edf_on_demand),
    ("ElasticFlow-like", fleet_peers.elasticflow_like),
    ("greedy, no admission", fleet_peers.greedy),
)


def rows(quick: bool, folder: Path | None = None, tell: Tell = lambda _: None) -> list[Row]:
    """All rows: table is `fleet`, `fleet-faults`, `fleet-waits`, `fleet-money` or `fleet-speed`."""
    return list(all_rows(quick, folder, tell))


def all_rows(quick: bool, folder: Path | None, tell: Tell) -> Iterator[Row]:
    """The rows one by one, so that an interrupted run keeps what it has."""
    folder = folder or data_folder()
    cases = [(stream, _scenario(stream, folder)) for stream in _streams(folder, quick)]
    for stream, scenario in cases:
        for name, decide in POLICIES:
            yield _replayed("fleet", stream, name, scenario, decide, tell)
    yield from speed_rows(quick, tell)
    for stream, scenario in cases:
        yield _money_row(stream, scenario, tell)
        yield _waits_row(stream, scenario, tell)
    for stream, scenario in cases:
        for name, faulty in _faults(scenario):
            yield _replayed("fleet-faults", stream, name, faulty, fleet_peers.evalfleet, tell)


def _streams(folder: Path | None, quick: bool) -> list[JobTrace]:
    found = discover_job_traces(folder) if folder is not None else []
    found = found or [_synthetic_stream()]
    return [JobTrace(stream.name, stream.jobs[: _MOST_JOBS[quick]]) for stream in found]


def _synthetic_stream() -> JobTrace:
    random = np.random.default_rng(SEED)
    moment, jobs = 0.0, []
    for index in range(2000):
        moment += float(random.exponential(240.0))
        workers, seconds = int(random.choice([1, 1, 2, 4, 8])), float(random.lognormal(8.5, 1.0))
        within = seconds * float(random.uniform(1.2, 3.0)) + 2 * STARTUP_SECONDS
        jobs.append(SubmittedJob(f"job-{index}", moment, workers * seconds, workers * 2, moment + within))
    return JobTrace("synthetic", tuple(jobs))


def _scenario(stream: JobTrace, folder: Path | None) -> FleetScenario:
    """The zones with counts of the data, scaled to the load; on-demand at a fixed multiple of the median spot price."""
    load = stream.mean_load_workers
    zones = _zones(folder)
    mean = sum(float(counts.mean()) for _, counts, _ in zones)
    scale = max(round(_LOAD_SHARE * load / mean), 1)
    quota = max(ceil(_LOAD_SHARE * load), max(job.max_workers for job in stream.jobs))
    median = float(np.median([price for _, _, price in zones]))
    spot = tuple(
        Pool(name, CapacityType.SPOT, Decimal(f"{price:.4f}"), int(counts.max()) * scale, name, STARTUP_SECONDS)
        for name, counts, price in zones
    )
    price = Decimal(f"{ON_DEMAND_OVER_SPOT * median:.4f}")
    on_demand = Pool("on-demand", CapacityType.ON_DEMAND, price, quota, "", STARTUP_SECONDS)
    return FleetScenario(
        tick_seconds=TICK_SECONDS,
        pools=(*spot, on_demand),
        counts={name: counts * scale for name, counts, _ in zones},
        counts_tick_seconds=600.0,
        seed=SEED,
    )


def _zones(folder: Path | None) -> list[tuple[str, np.ndarray[Any, Any], float]]:
    """Zones of the group with the most partial counts (10-minute grid), with their mean price."""
    traces = discover_spot_traces(folder) if folder is not None else []
    groups: dict[str, list[Any]] = {}
    for trace in traces:
        if trace.tick_seconds == 600.0 and trace.prices is not None and trace.largest_count > 1:
            groups.setdefault(trace.group, []).append(trace)
    if groups:
        best = max(groups.values(), key=len)
        return [(trace.name, trace.counts, float(trace.prices.mean())) for trace in best]
    random = np.random.default_rng(SEED)
    steps = [np.clip(np.cumsum(random.integers(-3, 4, 2016)) + 8, -6, 22) for _ in range(4)]
    return [(f"zone-{i}", np.clip(walk, 0, 16), 1.0 + 0.1 * i) for i, walk in enumerate(steps)]


def _faults(scenario: FleetScenario) -> list[tuple[str, FleetScenario]]:
    return [
        ("evalfleet, start-up x .5-1.5", replace(scenario, startup_range=(0.5, 1.5))),
        ("evalfleet, 10 % of on-demand launches fail", replace(scenario, launch_failure=0.1)),
        ("evalfleet, rate 20 % below plan", replace(scenario, rate_factor=0.8)),
    ]


def _replayed(table: str, stream: JobTrace, policy: str, scenario: FleetScenario, decide: Decide, tell: Tell) -> Row:
    began = time.perf_counter()
    outcome = replay_fleet(scenario, stream.jobs, decide)
    row = {
        "table": table,
        "pool": stream.name,
        "strategy": policy,
        "deadlineRatio": None,
        "jobs": len(stream.jobs),
        "quotaWorkers": scenario.pools[-1].max_workers,
        "delaySeconds": STARTUP_SECONDS,
        **_summary(outcome, float(scenario.pools[-1].price_per_hour)),
        "seconds": round(time.perf_counter() - began, 1),
    }
    tell(f"{stream.name}: {policy}: {row['admitted']} of {row['jobs']} admitted, {row['missed']} missed")
    return row


def _summary(outcome: FleetOutcome, on_demand_price: float) -> Row:
    admitted = [record for record in outcome.records if record.admitted_seconds is not None]
    missed = [record for record in admitted if record.missed]
    work = sum(record.job.work_gpu_seconds for record in admitted)
    total = sum(record.job.work_gpu_seconds for record in outcome.records)
    lateness = [record.finish_seconds - (record.job.deadline_seconds or 0.0) for record in missed]
    paid = sum(record.worker_seconds for record in admitted)
    return {
        "admitted": len(admitted),
        "admittedFraction": round(len(admitted) / max(len(outcome.records), 1), 4),
        "admittedWorkFraction": round(work / max(total, 1e-9), 4),
        "missed": len(missed),
        "maxLatenessSeconds": round(max(lateness, default=0.0), 1) if all(map(isfinite, lateness)) else None,
        "costOverOnDemand": round(outcome.cost / max(work / 3600 * on_demand_price, 1e-9), 4),
        "onDemandShare": round(sum(record.on_demand_seconds for record in admitted) / max(paid, 1e-9), 4),
        "preemptions": sum(record.preemptions for record in admitted),
        **_waits(admitted),
        "mostOnDemandWorkers": outcome.most_on_demand,
        "decisions": outcome.decisions,
    }


def _waits(records: list[JobRecord]) -> Row:
    """Seconds until the first worker was ready, and the queue-wait SLAs that were not kept."""
    waits = sorted(record.waited_seconds for record in records)
    asked = [record for record in records if record.job.queue_wait_seconds is not None]
    excess = [record.waited_seconds - float(record.job.queue_wait_seconds or 0.0) for record in asked]
    return {
        "queueWaitP50Seconds": _finite(waits[len(waits) // 2]) if waits else None,
        "queueWaitP90Seconds": _finite(waits[len(waits) * 9 // 10]) if waits else None,
        "queueWaitAsked": len(asked),
        "queueWaitMissed": sum(value > 1e-3 for value in excess),
        "queueWaitLargestExcessSeconds": _finite(max([0.0, *excess])),
    }


def _finite(value: float) -> float | None:
    return round(value, 1) if isfinite(value) else None


def _waits_row(stream: JobTrace, scenario: FleetScenario, tell: Tell) -> Row:
    """Every second job must have a ready worker half an hour after its submission."""
    jobs = tuple(
        replace(job, queue_wait_seconds=None if index % 2 else _QUEUE_WAIT_SECONDS)
        for index, job in enumerate(stream.jobs)
    )
    asked = JobTrace(stream.name, jobs)
    return _replayed("fleet-waits", asked, "evalfleet", scenario, fleet_peers.evalfleet, tell)


def _money_row(stream: JobTrace, scenario: FleetScenario, tell: Tell) -> Row:
    """Every second job has a budget that wins, and the policy limits per hour and day: nothing may be exceeded."""
    price = scenario.pools[-1].price_per_hour
    rate = price * scenario.pools[-1].max_workers / 2
    limits = Limits(max_cost_per_hour=rate, max_cost_per_day=rate * 18)
    jobs = tuple(_budgeted(job, index, price) for index, job in enumerate(stream.jobs))
    outcome = replay_fleet(replace(scenario, limits=limits), jobs, fleet_peers.evalfleet)
    use = [_budget_use(record) for record in outcome.records if record.job.budget is not None]
    row = {
        "table": "fleet-money",
        "pool": stream.name,
        "strategy": "evalfleet",
        "deadlineRatio": None,
        "jobs": len(jobs),
        "delaySeconds": STARTUP_SECONDS,
        **_summary(outcome, float(price)),
        "budgets": len(use),
        "budgetsExceeded": sum(value > 1 + 1e-9 for value in use),
        "largestBudgetUse": round(max(use, default=0.0), 4),
        "largestHourOverLimit": round(outcome.largest_hour_cost / float(rate), 4),
        "largestRateOverLimit": round(outcome.largest_rate_per_hour / float(rate), 4),
        "largestDayOverLimit": round(outcome.largest_day_cost / float(rate * 18), 4),
    }
    tell(f"{stream.name}: money: {row['budgetsExceeded']} of {row['budgets']} budgets exceeded")
    return row


def _budgeted(job: SubmittedJob, index: int, price: Decimal) -> SubmittedJob:
    if index % 2:
        return job
    on_demand = price * Decimal(f"{job.work_gpu_seconds / 3600:.6f}")
    share = (Decimal("0.4"), Decimal("0.7"), Decimal("1.2"))[index // 2 % 3]
    return replace(job, budget=Budget(on_demand * share, OnConflict.BUDGET))


def _budget_use(record: JobRecord) -> float:
    assert record.job.budget is not None
    return record.cost / max(float(record.job.budget.max_cost), 1e-12)


@dataclass(frozen=True, slots=True)
class _Size:
    jobs: int
    pools: int
    repeats: int


def speed_rows(quick: bool, tell: Tell) -> Iterator[Row]:
    """Milliseconds of one decision, with on-demand for everybody and with on-demand shared."""
    repeats = 10 if quick else 60
    for size in (_Size(100, 8, repeats), _Size(1000, 8, repeats), _Size(10_000, 8, max(repeats // 2, 5))):
        for contended in (False, True):
            row = _speed_row(size, contended)
            tell(f"speed: {row['jobs']} jobs x {row['pools']} pools: p50 {row['p50Ms']} ms, p99 {row['p99Ms']} ms")
            yield row


def _speed_row(size: _Size, contended: bool) -> Row:
    snapshot = _crowd(size, contended)
    decide_fleet(snapshot)
    taken = []
    gc.collect()
    for _ in range(size.repeats):
        began = time.perf_counter()
        decide_fleet(snapshot)
        taken.append((time.perf_counter() - began) * 1000)
    return {
        "table": "fleet-speed",
        "pool": "shared on-demand quota" if contended else "ample on-demand quota",
        "strategy": "ElasticAuto",
        "deadlineRatio": None,
        "jobs": size.jobs,
        "pools": size.pools,
        "workers": len(snapshot.workers),
        "p50Ms": round(quantiles(taken, n=100)[49], 2),
        "p99Ms": round(max(taken), 2) if len(taken) < 100 else round(quantiles(taken, n=100)[98], 2),
        "minMs": round(min(taken), 2),
    }


def _crowd(size: _Size, contended: bool) -> FleetSnapshot:
    """Jobs of 1 to 16 workers, a third without deadline, a tenth asking for admission, a fifth with a budget."""
    random = np.random.default_rng(SEED)
    spot = tuple(Pool(f"spot-{i}", CapacityType.SPOT, Decimal("1.2"), size.jobs) for i in range(size.pools - 1))
    quota = size.jobs * (2 if contended else 20)
    pools = (*spot, Pool("on-demand", CapacityType.ON_DEMAND, Decimal("3.6"), quota))
    jobs = tuple(_crowd_job(index, random) for index in range(size.jobs))
    workers = tuple(
        Worker(f"{job.name}-w{slot}", job.name, slot, pools[int(random.integers(size.pools))].name, age_seconds=900.0)
        for job in jobs
        for slot in range(min(job.max_workers, int(random.integers(0, 4))))
    )
    observations = tuple(PoolObservation(pool.name, size.jobs // 5) for pool in spot)
    limits = Limits(max_cost_per_day=Decimal(10**7))
    return FleetSnapshot(0.0, pools, jobs, workers, observations, limits, decision_period_seconds=60.0)


def _crowd_job(index: int, random: np.random.Generator) -> Job:
    width = int(random.integers(1, 17))
    work = float(random.uniform(600, 36_000))
    deadline = None if random.random() < 0.33 else work / width * float(random.uniform(1.5, 5)) + 3600
    return Job(
        name=f"job-{index}",
        work_left_gpu_seconds=work,
        max_workers=width,
        submitted_seconds=-float(random.uniform(0, 3600)),
        admitted_seconds=-10.0 if random.random() < 0.9 else None,
        deadline_seconds=deadline,
        submitter=f"submitter-{index % 20}",
        budget=Budget(Decimal(100)) if random.random() < 0.2 else None,
    )
