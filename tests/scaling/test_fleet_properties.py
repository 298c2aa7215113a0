"""Properties of every fleet decision, over arbitrary snapshots: limits, accounting, purity, honest refusals."""

from dataclasses import replace
from decimal import Decimal

from fleet_snapshots import snapshots
from hypothesis import HealthCheck, given, settings

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import FleetSnapshot, OnConflict

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@PROPERTY
@given(snapshots())
def test_no_decision_exceeds_a_pool_a_quota_a_limit_a_budget_or_a_width(snapshot: FleetSnapshot) -> None:
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
        if job_.budget is not None and job_.budget.on_conflict is OnConflict.BUDGET:
            mine = sum(price[entry.pool_name] * entry.workers for entry in judged.desired)
            money = max(job_.budget.max_cost - job_.spent, Decimal(0))
            assert mine * Decimal(2 * snapshot.decision_period_seconds) / 3600 <= money + Decimal("1e-6")
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
