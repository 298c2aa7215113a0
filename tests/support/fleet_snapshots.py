"""Builders of fleet snapshots: two spot pools and on-demand, jobs of four hours, and arbitrary ones."""

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.model import (
    Budget,
    CapacityType,
    FleetDecision,
    FleetSnapshot,
    Job,
    Limits,
    OnConflict,
    OnInfeasible,
    Pool,
    PoolObservation,
    StrategyName,
    Worker,
    WorkerState,
)

HOUR = 3600.0
SPOT = Pool("spot-a", CapacityType.SPOT, Decimal("1.00"), 16, expected_startup_seconds=300)
SPOT_B = Pool("spot-b", CapacityType.SPOT, Decimal("1.10"), 16, expected_startup_seconds=300)
ON_DEMAND = Pool("on-demand", CapacityType.ON_DEMAND, Decimal("3.00"), 8, expected_startup_seconds=300)


def job(name: str = "a", hours: float = 4.0, **fields: Any) -> Job:
    values: dict[str, Any] = {"max_workers": 4, "deadline_seconds": 10 * HOUR, "admitted_seconds": 0.0}
    return Job(name, hours * HOUR, **(values | fields))


def worker(owner: str, slot: int, pool: Pool = SPOT, **fields: Any) -> Worker:
    return Worker(f"{owner}-w{slot}", owner, slot, pool.name, **({"age_seconds": 900.0} | fields))


def fleet(*jobs: Job, spot: int | None = 16, workers: tuple[Worker, ...] = (), **fields: Any) -> FleetSnapshot:
    pools = fields.pop("pools", (SPOT, ON_DEMAND))
    seen = tuple(PoolObservation(pool.name, spot) for pool in pools if pool.is_spot)
    values: dict[str, Any] = {"now_seconds": 0.0, "observations": seen}
    return FleetSnapshot(pools=pools, jobs=jobs, workers=workers, **(values | fields))


def count(decision: FleetDecision, name: str, pool: Pool) -> int:
    return sum(entry.workers for entry in decision.of(name).desired if entry.pool_name == pool.name)


NAMES = st.sampled_from("abcdefgh")
EXTREME = st.sampled_from([0.0, 1e-9, 1.0, HOUR, 1e6, 1e18, 1e300])
MAYBE_TIME = st.none() | st.floats(-1e6, 1e6) | st.sampled_from([-1e300, 1e300])


@st.composite
def jobs(draw: st.DrawFn, name: str) -> Job:
    return Job(
        name=name,
        work_left_gpu_seconds=draw(st.floats(0, 1e6) | EXTREME),
        max_workers=draw(st.integers(1, 12) | st.just(10**9)),
        min_workers=draw(st.sampled_from([0, 1])),
        submitted_seconds=draw(st.floats(-1e6, 100)),
        admitted_seconds=draw(st.none() | st.floats(-1e5, 0)),
        deadline_seconds=draw(MAYBE_TIME),
        submitter=draw(st.sampled_from(["x", "y"])),
        priority=draw(st.integers(-2, 2)),
        queue_wait_seconds=draw(st.none() | st.floats(0, 1e4)),
        budget=draw(st.none() | st.builds(Budget, st.decimals(0, 50, places=2), st.sampled_from(OnConflict))),
        spent=draw(st.decimals(0, 40, places=2)),
        on_infeasible=draw(st.sampled_from(OnInfeasible)),
        best_effort=draw(st.booleans()),
        suspended=draw(st.sampled_from([False, False, True])),
        allowed_pools=draw(st.none() | st.frozensets(st.sampled_from(["spot-a", "spot-b", "on-demand"]))),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> FleetSnapshot:
    names = draw(st.sets(NAMES, max_size=6))
    pools = draw(st.sampled_from([(SPOT, SPOT_B, ON_DEMAND), (SPOT,), (ON_DEMAND,), (SPOT, ON_DEMAND)]))
    held = draw(st.sets(st.tuples(st.sampled_from(sorted(names)), st.integers(0, 9)), max_size=8)) if names else set()
    workers = tuple(
        worker(
            name,
            slot,
            draw(st.sampled_from(pools)),
            state=draw(st.sampled_from(WorkerState)),
            startup_left_seconds=draw(st.floats(0, 900)),
            age_seconds=draw(st.floats(0, 1e5)),
        )
        for name, slot in sorted(held)
    )
    seen = tuple(PoolObservation(pool.name, draw(st.none() | st.integers(0, 20))) for pool in pools)
    money = st.none() | st.decimals(0, 20, places=2)
    limits = Limits(
        max_workers=draw(st.none() | st.integers(0, 12)),
        on_demand_quota_workers=draw(st.none() | st.integers(0, 6)),
        max_cost_per_hour=draw(money),
        max_cost_per_day=draw(money),
        spent_this_day=draw(st.decimals(0, 20, places=2)),
        scale_up_workers_per_minute=draw(st.none() | st.integers(0, 5)),
        scale_down_stabilization_seconds=draw(st.sampled_from([0.0, 300.0])),
        scale_up_stabilization_seconds=draw(st.sampled_from([0.0, 60.0])),
    )
    return FleetSnapshot(
        now_seconds=0.0,
        pools=pools,
        jobs=tuple(draw(jobs(name)) for name in sorted(names)),
        workers=workers,
        observations=seen,
        limits=limits,
        strategy=draw(st.sampled_from(StrategyName)),
        memory=draw(st.sampled_from([FleetMemory(), FleetMemory(critical=frozenset("ab"))])),
    )
