"""The fleet decision: promises first, the rest shared fairly, never beyond a limit, and said in words."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalfleet_scaling.errors import ClockWentBackwardsError, EmptyPoolsError, InvalidJobError, InvalidPoolError
from evalfleet_scaling.fleet import decide_fleet
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


def test_with_slack_a_job_rides_spot_and_pays_no_on_demand() -> None:
    decision = decide_fleet(fleet(job()))
    assert (count(decision, "a", SPOT), count(decision, "a", ON_DEMAND)) == (4, 0)
    assert decision.of("a").reason == "Running"
    assert decision.of("a").message == "4 spot workers"


def test_without_slack_on_demand_fills_what_spot_does_not() -> None:
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR), spot=0))
    assert count(decision, "a", ON_DEMAND) == 4
    assert decision.of("a").reason == "OnDemandForDeadline"


def test_without_spot_and_with_slack_the_job_waits_and_says_so() -> None:
    decision = decide_fleet(fleet(job(hours=1, deadline_seconds=100 * HOUR), spot=0)).of("a")
    assert (decision.desired_workers, decision.reason) == (0, "NoSpotCapacity")
    assert "on-demand starts before the deadline is in danger" in decision.message


def test_an_infeasible_deadline_is_refused_with_the_earliest_feasible_one_and_that_one_is_accepted() -> None:
    asked = job(hours=40, max_workers=8, deadline_seconds=3 * HOUR, admitted_seconds=None)
    refused = decide_fleet(fleet(asked)).of("a")
    assert (refused.admitted, refused.reason, refused.desired_workers) == (False, "DeadlineInfeasible", 0)
    assert refused.earliest_feasible_deadline_seconds is not None
    assert "the earliest feasible one is 5 h" in refused.message
    again = replace(asked, deadline_seconds=refused.earliest_feasible_deadline_seconds)
    assert decide_fleet(fleet(again)).of("a").admitted


def test_an_infeasible_deadline_may_run_anyway_but_displaces_no_promised_job() -> None:
    promised = job("promised", hours=30, max_workers=8, deadline_seconds=3.8 * HOUR)
    greedy = job(
        "greedy",
        hours=500,
        max_workers=8,
        deadline_seconds=2 * HOUR,
        admitted_seconds=None,
        on_infeasible=OnInfeasible.RUN_ANYWAY,
    )
    decision = decide_fleet(fleet(promised, greedy, spot=0))
    assert decision.of("greedy").best_effort
    assert count(decision, "promised", ON_DEMAND) == 8
    assert count(decision, "greedy", ON_DEMAND) == 0


def test_a_refusal_is_remembered_for_a_minute_and_examined_again_after() -> None:
    asked = job(hours=400, admitted_seconds=None)
    first = decide_fleet(fleet(asked))
    soon = decide_fleet(fleet(asked, now_seconds=30.0, memory=first.memory))
    assert soon.memory.refused == first.memory.refused
    later = decide_fleet(fleet(asked, now_seconds=61.0, memory=soon.memory))
    assert later.memory.refused["a"].retry_seconds == 121.0


def test_jobs_without_deadline_share_spot_evenly_between_submitters() -> None:
    many = [job(f"many-{i}", deadline_seconds=None, submitter="many") for i in range(6)]
    decision = decide_fleet(fleet(*many, job("one", deadline_seconds=None, submitter="one"), spot=8))
    assert count(decision, "one", SPOT) == 4
    assert sum(count(decision, f"many-{i}", SPOT) for i in range(6)) == 4


def test_a_starving_job_comes_before_the_extra_workers_of_others_and_takes_one_back() -> None:
    rich = job("rich", hours=100, deadline_seconds=None, max_workers=8)
    poor = job("poor", deadline_seconds=None, submitted_seconds=-2 * HOUR)
    holding = tuple(worker("rich", slot) for slot in range(8))
    decision = decide_fleet(fleet(rich, poor, spot=0, workers=holding))
    assert len(decision.of("rich").victims) == 1
    assert decision.of("poor").desired_workers == 1  # on-demand, until the spot worker is free


def test_a_fleet_without_spot_serves_jobs_without_deadline_on_demand() -> None:
    decision = decide_fleet(fleet(job(deadline_seconds=None), pools=(ON_DEMAND,)))
    assert count(decision, "a", ON_DEMAND) == 4


def test_the_queue_wait_sla_starts_one_on_demand_worker_in_time() -> None:
    waiting = job(hours=0.5, deadline_seconds=None, queue_wait_seconds=600.0)
    assert decide_fleet(fleet(waiting, spot=0)).of("a").desired_workers == 0
    due = decide_fleet(fleet(waiting, spot=0, now_seconds=260.0))
    assert count(due, "a", ON_DEMAND) == 1


def test_a_worker_started_for_the_queue_wait_stays_until_spot_replaces_it() -> None:
    served = job(deadline_seconds=None, queue_wait_seconds=600.0, first_ready_seconds=500.0, last_served_seconds=700.0)
    have = (worker("a", 0, ON_DEMAND),)
    still = decide_fleet(fleet(served, spot=0, workers=have, now_seconds=700.0))
    assert count(still, "a", ON_DEMAND) == 1
    assert not still.of("a").victims
    seen = (PoolObservation(SPOT.name, 8, offered_since_seconds=-HOUR),)
    filled = decide_fleet(fleet(served, workers=have, now_seconds=700.0, observations=seen))
    assert (count(filled, "a", SPOT), count(filled, "a", ON_DEMAND)) == (3, 1)
    beside = tuple(worker("a", slot) for slot in range(1, 4))
    replaced = decide_fleet(fleet(served, workers=(*have, *beside), now_seconds=1100.0, observations=seen))
    assert (count(replaced, "a", SPOT), count(replaced, "a", ON_DEMAND)) == (4, 0)


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(max_workers=3), "maxWorkers"),
        (Limits(max_cost_per_hour=Decimal("3.50")), "maxCostPerHour"),
        (Limits(max_cost_per_day=Decimal(10), spent_this_day=Decimal("9.9")), "maxCostPerDay"),
        (Limits(max_cost_per_month=Decimal(10), spent_this_month=Decimal("9.9")), "maxCostPerMonth"),
        (Limits(scale_up_workers_per_minute=3), "scaleUp"),
    ],
)
def test_a_limit_holds_back_workers_and_is_named(limits: Limits, limit: str) -> None:
    decision = decide_fleet(fleet(job(deadline_seconds=None), limits=limits))
    assert decision.of("a").desired_workers == 3
    assert [hit.limit for hit in decision.limits_hit] == [limit]
    assert decision.reason == "ScalingLimited"


def test_without_a_limit_none_is_named() -> None:
    assert decide_fleet(fleet(job())).limits_hit == ()


def test_a_budget_that_does_not_cover_on_demand_leaves_spot_and_says_so() -> None:
    tight = Budget(Decimal(6), OnConflict.BUDGET)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR, budget=tight), spot=2))
    assert (count(decision, "a", SPOT), count(decision, "a", ON_DEMAND)) == (2, 0)
    assert decision.of("a").reason == "BudgetLimited"


def test_a_budget_that_wins_and_cannot_pay_on_demand_is_admitted_without_a_promise() -> None:
    poor = job(hours=4, admitted_seconds=None, budget=Budget(Decimal(6), OnConflict.BUDGET))
    decision = decide_fleet(fleet(poor)).of("a")
    assert (decision.admitted, decision.best_effort) == (True, True)


def test_a_deadline_that_wins_over_the_budget_gets_on_demand() -> None:
    tight = Budget(Decimal(6), OnConflict.DEADLINE)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.02 * HOUR, budget=tight), spot=0))
    assert decision.of("a").critical or decision.of("a").best_effort
    assert count(decision, "a", ON_DEMAND) == 4


def test_an_exhausted_budget_stops_the_job() -> None:
    spent = job(budget=Budget(Decimal(5)), spent=Decimal(5))
    decision = decide_fleet(fleet(spent, workers=(worker("a", 0),)))
    assert decision.of("a").victims == ("a-w0",)
    assert decision.of("a").reason == "BudgetExhausted"


def test_suspended_and_finished_jobs_give_up_their_workers() -> None:
    jobs = (job("suspended", suspended=True), job("done", hours=0))
    decision = decide_fleet(fleet(*jobs, workers=(worker("suspended", 0), worker("done", 3))))
    assert decision.of("suspended").victims == ("suspended-w0",)
    assert decision.of("done").victims == ("done-w3",)
    assert [decision.of(name).reason for name in ("suspended", "done")] == ["Suspended", "AllWorkDone"]


def test_a_narrower_job_loses_its_youngest_workers() -> None:
    have = tuple(worker("a", slot, age_seconds=100.0 * (9 - slot)) for slot in range(4))
    decision = decide_fleet(fleet(job(max_workers=2), workers=have))
    assert set(decision.of("a").victims) == {"a-w2", "a-w3"}


def test_new_workers_take_the_lowest_free_slots() -> None:
    decision = decide_fleet(fleet(job(), workers=(worker("a", 1), worker("a", 7))))
    assert sorted(start.slot for start in decision.of("a").starts) == [0, 2]


def test_a_pool_that_cools_down_is_left_alone() -> None:
    seen = (PoolObservation(SPOT.name, 8, cool_down_until_seconds=100.0), PoolObservation(SPOT_B.name, 8))
    decision = decide_fleet(fleet(job(), pools=(SPOT, SPOT_B, ON_DEMAND), observations=seen))
    assert (count(decision, "a", SPOT), count(decision, "a", SPOT_B)) == (0, 4)


def test_two_active_spot_pools_share_a_job() -> None:
    decision = decide_fleet(fleet(job(), pools=(SPOT, SPOT_B, ON_DEMAND)))
    assert (count(decision, "a", SPOT), count(decision, "a", SPOT_B)) == (2, 2)


def test_only_allowed_pools_are_used_and_none_allowed_is_said() -> None:
    pools = (SPOT, SPOT_B, ON_DEMAND)
    only_b = decide_fleet(fleet(job(allowed_pools=frozenset({"spot-b"})), pools=pools))
    assert (count(only_b, "a", SPOT), count(only_b, "a", SPOT_B)) == (0, 4)
    nowhere = decide_fleet(fleet(job(allowed_pools=frozenset({"elsewhere"})), pools=pools)).of("a")
    assert (nowhere.reason, nowhere.admitted, nowhere.desired_workers) == ("NoPoolAllowed", False, 0)


def test_on_demand_spills_over_to_the_next_pool_when_the_cheapest_is_full() -> None:
    small = replace(ON_DEMAND, name="small", price_per_hour=Decimal(2), max_workers=1)
    decision = decide_fleet(fleet(job(hours=4, deadline_seconds=1.05 * HOUR), spot=0, pools=(SPOT, small, ON_DEMAND)))
    assert (count(decision, "a", small), count(decision, "a", ON_DEMAND)) == (1, 3)


def test_shrinking_waits_for_the_stabilisation_window() -> None:
    surplus = job(hours=0.1, deadline_seconds=100 * HOUR)
    have = tuple(worker("a", slot, ON_DEMAND) for slot in range(4))
    limits = Limits(scale_down_stabilization_seconds=300.0)
    first = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits))
    assert not first.of("a").victims
    later = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits, now_seconds=301.0, memory=first.memory))
    assert later.of("a").victims


def test_growing_waits_for_its_window_unless_a_promise_needs_it() -> None:
    limits = Limits(scale_up_stabilization_seconds=120.0)
    first = decide_fleet(fleet(job(), limits=limits))
    assert first.of("a").desired_workers == 0
    later = decide_fleet(fleet(job(), limits=limits, now_seconds=120.0, memory=first.memory))
    assert later.of("a").desired_workers == 4


def test_removals_per_minute_are_limited() -> None:
    surplus = job(hours=0.1, deadline_seconds=100 * HOUR)
    have = tuple(worker("a", slot, ON_DEMAND) for slot in range(4))
    limits = Limits(scale_down_workers_per_minute=1)
    first = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits))
    assert len(first.of("a").victims) == 1
    again = decide_fleet(fleet(surplus, spot=0, workers=have, limits=limits, now_seconds=1.0, memory=first.memory))
    assert not again.of("a").victims


def test_contended_on_demand_goes_to_the_earliest_deadlines_that_need_it_now() -> None:
    urgent = job("urgent", hours=7, max_workers=8, deadline_seconds=0.95 * HOUR)
    patient = job("patient", hours=7, max_workers=8, deadline_seconds=9 * HOUR)
    have = tuple(worker("patient", slot, ON_DEMAND) for slot in range(8))
    decision = decide_fleet(fleet(urgent, patient, spot=0, workers=have))
    assert count(decision, "urgent", ON_DEMAND) == 8
    assert len(decision.of("patient").victims) == 8


def test_a_runaway_estimate_of_one_job_takes_nothing_from_the_promises_of_others() -> None:
    fine = job("fine", hours=6, max_workers=8, deadline_seconds=0.8 * HOUR)
    poisoned = job("poisoned", hours=1e9, max_workers=10**9, deadline_seconds=0.5 * HOUR, work_total_gpu_seconds=HOUR)
    decision = decide_fleet(fleet(fine, poisoned, spot=0))
    assert count(decision, "fine", ON_DEMAND) == 8


def test_bad_input_is_a_typed_error_that_names_the_field() -> None:
    with pytest.raises(InvalidJobError, match="work_left"):
        job(hours=-1)
    with pytest.raises(InvalidJobError, match="finite"):
        job(hours=float("nan"))
    with pytest.raises(InvalidPoolError, match="price"):
        replace(SPOT, price_per_hour=None)  # type: ignore[arg-type]
    with pytest.raises(EmptyPoolsError):
        fleet(job(), pools=())
    with pytest.raises(ClockWentBackwardsError):
        fleet(job(), now_seconds=5.0, previous_now_seconds=6.0)


def test_no_jobs_is_a_decision_too() -> None:
    assert decide_fleet(fleet()).jobs == ()


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


PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PROPERTY
@given(snapshots())
def test_no_decision_exceeds_a_pool_a_quota_a_limit_or_a_width(snapshot: FleetSnapshot) -> None:
    decision = decide_fleet(snapshot)
    limits = snapshot.limits
    price = {pool.name: pool.price_per_hour for pool in snapshot.pools}
    total = {pool.name: 0 for pool in snapshot.pools}
    for job_, judged in zip(snapshot.jobs, decision.jobs, strict=True):
        assert judged.job_name == job_.name
        assert judged.desired_workers <= job_.max_workers
        if job_.suspended or not judged.admitted:
            assert judged.desired_workers == 0
        allowed = job_.allowed_pools
        assert all(allowed is None or start.pool_name in allowed for start in judged.starts)
        for entry in judged.desired:
            total[entry.pool_name] += entry.workers
    rate = sum(price[name] * workers for name, workers in total.items())
    assert all(total[pool.name] <= pool.max_workers for pool in snapshot.pools)
    assert limits.max_workers is None or sum(total.values()) <= limits.max_workers
    if limits.on_demand_quota_workers is not None:
        assert total.get("on-demand", 0) <= limits.on_demand_quota_workers
    assert limits.max_cost_per_hour is None or rate <= limits.max_cost_per_hour
    if limits.max_cost_per_day is not None:
        left = max(limits.max_cost_per_day - limits.spent_this_day, Decimal(0))
        assert rate * Decimal(2 * snapshot.decision_period_seconds) / 3600 <= left + Decimal("1e-6")


@PROPERTY
@given(snapshots())
def test_victims_and_starts_add_up_to_what_is_desired(snapshot: FleetSnapshot) -> None:
    decision = decide_fleet(snapshot)
    for judged in decision.jobs:
        have = {item.name: item for item in snapshot.workers if item.job_name == judged.job_name}
        stay = [item for name, item in have.items() if name not in judged.victims]
        assert set(judged.victims) <= set(have)
        assert len(stay) + len(judged.starts) == judged.desired_workers
        slots = [item.slot for item in stay] + [start.slot for start in judged.starts]
        assert len(slots) == len(set(slots))
        assert judged.reason
        assert judged.message


@PROPERTY
@given(snapshots())
def test_a_decision_depends_on_its_snapshot_alone(snapshot: FleetSnapshot) -> None:
    first = decide_fleet(snapshot)
    decide_fleet(replace(snapshot, jobs=(), workers=()))
    assert decide_fleet(snapshot) == first


@PROPERTY
@given(snapshots())
def test_a_refused_jobs_named_deadline_is_accepted_when_it_asks_again(snapshot: FleetSnapshot) -> None:
    decision = decide_fleet(snapshot)
    for job_, judged in zip(snapshot.jobs, decision.jobs, strict=True):
        named = judged.earliest_feasible_deadline_seconds
        if judged.admitted or named is None:
            continue
        # Alone: others who asked at the same time may take the place in between.
        others = tuple(
            other for other in snapshot.jobs if other.name != job_.name and other.admitted_seconds is not None
        )
        kept = {other.name for other in others} | {job_.name}
        again = replace(
            snapshot,
            jobs=(*others, replace(job_, deadline_seconds=named)),
            workers=tuple(item for item in snapshot.workers if item.job_name in kept),
        )
        assert decide_fleet(again).of(job_.name).admitted
