"""The replay drives the fleet decision: promises are kept, money stays within budgets, a seed is a run."""

from dataclasses import replace
from decimal import Decimal

import numpy as np

from evalfleet_lab.simulate.fleet_replay import FleetScenario, SubmittedJob, replay_fleet
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import Budget, CapacityType, Limits, OnConflict, Pool

SPOT = Pool("spot", CapacityType.SPOT, Decimal("1.00"), 12, expected_startup_seconds=300)
ON_DEMAND = Pool("on-demand", CapacityType.ON_DEMAND, Decimal("3.00"), 6, expected_startup_seconds=300)
COUNTS = np.random.default_rng(3).integers(0, 12, 400)
SCENARIO = FleetScenario(300.0, (SPOT, ON_DEMAND), {"spot": COUNTS}, 600.0)


def stream(count: int = 30) -> tuple[SubmittedJob, ...]:
    random = np.random.default_rng(4)
    jobs = []
    for index in range(count):
        submitted, work = 900.0 * index, float(random.uniform(1800, 20_000))
        jobs.append(SubmittedJob(f"job-{index}", submitted, work, 4, submitted + work / 4 * 2.5 + 3000))
    return tuple(jobs)


def test_every_admitted_job_meets_its_deadline_on_a_contended_fleet() -> None:
    outcome = replay_fleet(SCENARIO, stream(), decide_fleet)
    admitted = [record for record in outcome.records if record.admitted_seconds is not None]
    assert len(admitted) > 15
    assert not [record.job.name for record in admitted if record.missed]
    assert outcome.most_on_demand <= 6


def test_the_same_seed_is_the_same_run() -> None:
    first = replay_fleet(SCENARIO, stream(12), decide_fleet)
    again = replay_fleet(SCENARIO, stream(12), decide_fleet)
    assert [record.finish_seconds for record in first.records] == [record.finish_seconds for record in again.records]
    assert first.cost == again.cost


def test_budgets_and_limits_are_never_exceeded() -> None:
    jobs = tuple(replace(job, budget=Budget(Decimal("3.00"), OnConflict.BUDGET)) for job in stream(15))
    limited = replace(SCENARIO, limits=Limits(max_cost_per_hour=Decimal(8), max_cost_per_day=Decimal(60)))
    outcome = replay_fleet(limited, jobs, decide_fleet)
    assert max(record.cost for record in outcome.records) <= 3.0 + 1e-9
    assert outcome.largest_rate_per_hour <= 8.0
    assert outcome.largest_day_cost <= 60.0 + 1e-9
