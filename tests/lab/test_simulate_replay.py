"""Virtual worlds: deterministic, honest about cost, and driven by the decisions the operator would take."""

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from capacity_scenarios import HOUR, scenario

from evalfleet_lab.simulate.fleet_replay import FleetScenario, SubmittedJob, replay_fleet
from evalfleet_lab.simulate.replay import replay, seconds_until_done
from evalfleet_lab.simulate.scenario import Faults, JobShape, region_scenario, single_pool_scenario, steady_counts
from evalfleet_lab.simulate.trace import SpotTrace, evenly_spaced_starts
from evalfleet_lab.synthetic.capacity import SyntheticPool, synthetic_trace
from evalfleet_scaling.capacity.elastic_auto import ElasticAuto
from evalfleet_scaling.capacity.on_demand_only import OnDemandOnly
from evalfleet_scaling.capacity.spot_only import SpotOnly
from evalfleet_scaling.errors import InvalidObservationError
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import CapacityType, Limits, Pool


def trace(counts, name="a", prices=None):
    return SpotTrace(name, "g", 300.0, np.asarray(counts), prices)


def test_on_demand_costs_its_work_and_one_start_up_per_worker():
    world = scenario(np.zeros(40, dtype=int), work=4 * 6 * 300.0, width=4)
    outcome = replay(world, OnDemandOnly())
    assert outcome.cost[0] == pytest.approx(4 * (6 + 2) * 300 / 3600 * 3.0)  # two ticks of start-up each
    assert outcome.finish_seconds[0] == pytest.approx(8 * 300.0)
    assert outcome.on_demand_cost[0] == pytest.approx(4 * 6 * 300 / 3600 * 3.0)
    assert outcome.startup_seconds[0] == 4 * 600.0


def test_spot_beyond_the_count_is_taken_away():
    world = scenario([4] * 10 + [1] * 10, work=1e6, width=4)
    outcome = replay(world, SpotOnly(), extra_ticks=0)
    assert outcome.preemptions[0] == 3
    assert outcome.missed[0]
    assert outcome.finish_seconds[0] == np.inf


@pytest.mark.parametrize("seed", [1, 2])
def test_equal_seeds_give_equal_outcomes_and_other_seeds_others(seed):
    counts = np.tile([6, 6, 0, 0, 0, 3], 12)
    world = scenario(counts, work=0.6 * 6 * len(counts) * 300.0, width=6)
    faults = Faults(startup_range=(0.5, 1.5), launch_failure=0.3, seed=seed)
    first, again = replay(world, ElasticAuto(), faults), replay(world, ElasticAuto(), faults)
    assert first.cost[0] == again.cost[0]
    assert first.failed_launches[0] == again.failed_launches[0]
    other = replay(world, ElasticAuto(), replace(faults, seed=seed + 10))
    assert (other.cost[0], other.finish_seconds[0]) != (first.cost[0], first.finish_seconds[0])


@pytest.mark.parametrize(
    ("ready", "work", "expected"),
    [([0.0, 0.0], 10.0, 5.0), ([0.0, 4.0], 10.0, 7.0), ([3.0], 2.0, 5.0), ([0.0], 0.0, 0.0)],
)
def test_work_is_done_by_whoever_is_ready(ready, work, expected):
    assert seconds_until_done(np.array(ready), work) == pytest.approx(expected)


def test_steady_counts_are_the_least_of_the_last_while():
    assert steady_counts(trace([4, 4, 2, 4, 4, 4]), 600.0).tolist() == [0, 0, 2, 2, 2, 4]


def test_windows_cover_the_trace_evenly():
    assert evenly_spaced_starts(100, 40, 4).tolist() == [0, 20, 40, 60]
    with pytest.raises(InvalidObservationError):
        evenly_spaced_starts(10, 40, 4)


def test_a_region_uses_the_cheapest_pool_that_offers():
    prices = [np.full(200, 2.0), np.full(200, 1.0)]
    pools = [trace([4] * 200, "dear", prices[0]), trace([4] * 100 + [0] * 100, "cheap", prices[1])]
    world = region_scenario(pools, JobShape(4, hours=4.0, deadline_ratio=2.0), 2, on_demand_price=3.0)
    outcome = replay(world, SpotOnly())
    cost = outcome.cost / (world.work / 3600)
    assert cost[0] == pytest.approx(1.0, rel=0.1)
    assert cost[1] == pytest.approx(2.0, rel=0.1)
    with pytest.raises(InvalidObservationError):
        region_scenario([trace([1] * 200)], JobShape(1, hours=1.0), 1, on_demand_price=3.0)


def test_the_runs_of_a_scenario_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    traces = [trace(np.repeat(rng.integers(0, 5, 40), 8), str(i)) for i in range(3)]
    job = JobShape(4, hours=4.0, deadline_ratio=1.5)
    together = replay(single_pool_scenario(traces, job, 5, spot_price=1.0, on_demand_price=3.0), ElasticAuto())
    alone = [
        replay(single_pool_scenario([one], job, 5, spot_price=1.0, on_demand_price=3.0), ElasticAuto()).cost
        for one in traces
    ]
    assert together.cost.tolist() == np.concatenate(alone).tolist()


@pytest.mark.parametrize(
    "bad",
    [
        {"counts": np.array([])},
        {"counts": np.array([-1])},
        {"tick_seconds": 0.0},
        {"tick_seconds": float("nan")},
        {"prices": np.array([1.0])},
        {"prices": np.array([1.0, float("nan")])},
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(bad):
    good = {"name": "a", "group": "g", "tick_seconds": 300.0, "counts": np.array([1, 2])}
    with pytest.raises(InvalidObservationError):
        SpotTrace(**{**good, **bad})


def test_a_synthetic_pool_is_up_as_often_as_asked_and_repeatable():
    pool = SyntheticPool(
        mean_up_seconds=6 * HOUR, mean_down_seconds=2 * HOUR, partial_probability=0.5, price_levels=(1, 2)
    )
    made = synthetic_trace(pool, ticks=60_000, tick_seconds=300.0, seed=4)
    assert (made.counts > 0).mean() == pytest.approx(0.75, abs=0.06)
    assert 0.2 < ((made.counts > 0) & (made.counts < 16)).mean() < 0.6
    assert set(made.prices) == {1.0, 2.0}
    assert (synthetic_trace(pool, ticks=600, tick_seconds=300.0, seed=4).counts == made.counts[:600]).all()
    with pytest.raises(InvalidObservationError):
        SyntheticPool(mean_up_seconds=float("nan"))


POOLS = (
    Pool("spot", CapacityType.SPOT, Decimal("1.00"), 6, expected_startup_seconds=120.0),
    Pool("firm", CapacityType.ON_DEMAND, Decimal("3.00"), 12, expected_startup_seconds=120.0),
)


def jobs():
    rng = np.random.default_rng(2)
    made = []
    for number in range(6):
        submitted, work = float(rng.uniform(0, 3 * HOUR)), float(rng.uniform(1, 4)) * HOUR
        deadline = submitted + work / 3 * float(rng.uniform(1.6, 3.0)) + 1800
        made.append(SubmittedJob(f"job-{number}", submitted, work, 3, deadline))
    return tuple(made)


def fleet(**more):
    counts = {"spot": np.repeat(np.random.default_rng(2).integers(0, 7, 30), 15)}
    return FleetScenario(
        **{"tick_seconds": 60.0, "pools": POOLS, "counts": counts, "counts_tick_seconds": 60.0, **more}
    )


def test_a_fleet_meets_the_deadlines_it_admits_though_start_ups_vary_and_launches_fail():
    world = fleet(startup_range=(0.5, 1.0), launch_failure=0.1, unit_seconds=10.0, seed=1)
    outcome = replay_fleet(world, jobs(), decide_fleet)
    promised = [one for one in outcome.records if one.admitted_seconds is not None and not one.best_effort]
    assert len(promised) >= 4
    assert [one.job.name for one in promised if one.missed] == []
    assert sum(one.preemptions for one in outcome.records) > 0
    assert outcome.cost == pytest.approx(sum(one.cost for one in outcome.records))


def test_preemptions_without_notice_cost_work():
    with_notice, without = (replay_fleet(fleet(unit_seconds=x), jobs(), decide_fleet) for x in (0.0, 300.0))
    assert sum(one.worker_seconds for one in without.records) > sum(one.worker_seconds for one in with_notice.records)


def test_a_fleet_leaves_spot_that_becomes_dearer_than_on_demand():
    dear = replay_fleet(fleet(prices={"spot": np.full(10, 3.5)}), jobs(), decide_fleet)
    cheap = replay_fleet(fleet(prices={"spot": np.full(10, 0.5)}), jobs(), decide_fleet)
    share = [
        sum(one.on_demand_seconds for one in outcome.records) / sum(one.worker_seconds for one in outcome.records)
        for outcome in (dear, cheap)
    ]
    assert share[0] > 0.95 > share[1]


def test_a_fleet_never_exceeds_its_worker_limit_and_is_deterministic():
    limited = fleet(limits=Limits(max_workers=4))
    first, again = (replay_fleet(limited, jobs(), decide_fleet) for _ in range(2))
    assert first.most_workers <= 4
    assert first.cost == again.cost
    assert [one.finish_seconds for one in first.records] == [one.finish_seconds for one in again.records]


def test_a_fleet_without_spot_runs_on_demand():
    outcome = replay_fleet(fleet(pools=POOLS[1:], counts={}), jobs(), decide_fleet)
    assert not any(one.missed for one in outcome.records if not one.best_effort)
    assert sum(one.preemptions for one in outcome.records) == 0
