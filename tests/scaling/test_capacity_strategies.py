"""Every strategy stays within what is offered, depends on its input alone, and does what its name says."""

from dataclasses import fields, replace

import numpy as np
import pytest
from capacity_scenarios import HOUR, ON_DEMAND, SPOT, view
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.capacity.registry import STRATEGIES, strategy_named
from evalfleet_scaling.capacity.strategy import within_offers
from evalfleet_scaling.capacity.uniform_progress import UniformProgress
from evalfleet_scaling.capacity.view import EMPTY, CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName

ALL = list(STRATEGIES.values())


@st.composite
def views(draw):
    """Arbitrary states of up to four jobs on two spot pools and two on-demand pools."""
    jobs, width, pools = draw(st.integers(1, 4)), draw(st.integers(1, 6)), 4
    seconds = st.floats(0, 200 * HOUR)
    column = lambda element: np.array([draw(element) for _ in range(jobs)], dtype=float)  # noqa: E731
    slot_pool = np.array([[draw(st.integers(-1, pools - 1)) for _ in range(width)] for _ in range(jobs)])
    counts = lambda: np.array([[draw(st.integers(0, 8)) for _ in range(pools)] for _ in range(jobs)])  # noqa: E731
    work = column(seconds)
    launches = column(st.integers(0, 50))
    return CapacityView(
        tick_seconds=draw(st.sampled_from([30.0, 300.0, 600.0])),
        elapsed_seconds=column(seconds),
        left_seconds=column(seconds),
        work_left=work,
        work_total=work + column(seconds),
        width=np.array([draw(st.integers(0, width)) for _ in range(jobs)]),
        slot_pool=slot_pool,
        startup_left=np.where(slot_pool >= 0, draw(st.sampled_from([0.0, 200.0, 600.0])), 0.0),
        offered=counts(),
        steady=counts(),
        price=np.array([[draw(st.floats(0.1, 10)) for _ in range(pools)] for _ in range(jobs)]),
        startup=np.full((jobs, pools), draw(st.sampled_from([0.0, 60.0, 720.0]))),
        lifetime=np.full((jobs, pools), draw(st.sampled_from([np.inf, 1800.0, 1e5]))),
        throughput=np.array([1.0, 0.5, 1.0, 2.0]),
        is_spot=np.array([True, True, False, False]),
        fallback=2,
        fallback_launches=launches,
        fallback_failures=np.floor(launches * draw(st.floats(0, 1))),
        was_critical=np.array([draw(st.booleans()) for _ in range(jobs)]),
        most_spot=np.array([draw(st.integers(0, 8)) for _ in range(jobs)]),
    )


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)
@given(state=views())
@settings(max_examples=25, deadline=None)
def test_no_plan_starts_beyond_width_or_offer(strategy, state):
    plan = within_offers(state, strategy.decide(state))
    started = (plan.slot_pool != state.slot_pool) & (plan.slot_pool >= 0)
    assert not (started & ~state.usable).any()
    for pool in range(4):
        assert ((started & (plan.slot_pool == pool)).sum(axis=1) <= state.offered[:, pool]).all()


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)
@given(state=views())
@settings(max_examples=15, deadline=None)
def test_a_decision_depends_on_its_input_alone_and_changes_none_of_it(strategy, state):
    before = {one.name: np.copy(getattr(state, one.name)) for one in fields(state)}
    first, second = strategy.decide(state), strategy.decide(state)
    assert (first.slot_pool == second.slot_pool).all()
    assert (first.critical == second.critical).all()
    for name, value in before.items():
        assert np.array_equal(value, getattr(state, name)), name


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: strategy.name)
@given(state=views())
@settings(max_examples=15, deadline=None)
def test_a_job_is_decided_the_same_alone_and_among_others(strategy, state):
    together = strategy.decide(state).slot_pool
    shared = ("tick_seconds", "throughput", "is_spot", "fallback")
    for row in range(len(state.width)):
        alone = {one.name: getattr(state, one.name)[row : row + 1] for one in fields(state) if one.name not in shared}
        assert (strategy.decide(replace(state, **alone)).slot_pool[0] == together[row]).all()


def planned(name, **state):
    return strategy_named(name).decide(view(**state)).slot_pool[0].tolist()


@pytest.mark.parametrize(
    ("name", "state", "expected"),
    [
        (StrategyName.ON_DEMAND_ONLY, {}, [ON_DEMAND] * 4),
        (StrategyName.ON_DEMAND_ONLY, {"slots": [SPOT] * 4}, [ON_DEMAND] * 4),
        (StrategyName.SPOT_ONLY, {"offered": 2}, [SPOT, SPOT, EMPTY, EMPTY]),
        (StrategyName.SPOT_ONLY, {"offered": 0, "left": 1.0}, [EMPTY] * 4),
        (StrategyName.GREEDY, {"offered": 0}, [EMPTY] * 4),
        (StrategyName.GREEDY, {"offered": 0, "left": 2.2 * HOUR}, [ON_DEMAND] * 4),
        (StrategyName.GREEDY, {"slots": [ON_DEMAND] * 4, "offered": 4}, [SPOT] * 4),
        (StrategyName.STATIC_MIX, {"offered": 4}, [ON_DEMAND, ON_DEMAND, SPOT, SPOT]),
        (StrategyName.STATIC_MIX, {"offered": 0}, [ON_DEMAND, ON_DEMAND, EMPTY, EMPTY]),
        (StrategyName.SPOT_HEDGE, {"offered": 4, "left": 4 * HOUR}, [SPOT] * 4),
        (StrategyName.UNIFORM_PROGRESS, {"offered": 0, "elapsed": HOUR, "total": 8 * HOUR}, [ON_DEMAND] * 4),
        (StrategyName.UNIFORM_PROGRESS, {"offered": 0, "elapsed": HOUR, "total": 16 * HOUR}, [EMPTY] * 4),
        (StrategyName.UTILITY, {"offered": 4, "spot_price": 0.5}, [SPOT] * 4),
        (StrategyName.ELASTIC_AUTO, {"offered": 4}, [SPOT] * 4),
        (StrategyName.ELASTIC_AUTO, {"offered": 0, "left": 40 * HOUR, "elapsed": 1.0}, [EMPTY] * 4),
        (StrategyName.ELASTIC_AUTO, {"offered": 4, "left": 2.2 * HOUR}, [ON_DEMAND] * 4),
        (StrategyName.ELASTIC_AUTO, {"slots": [ON_DEMAND] * 4, "offered": 4, "left": 20 * HOUR}, [SPOT] * 4),
        (StrategyName.ELASTIC_RULE, {"offered": 4}, [SPOT] * 4),
        (StrategyName.ELASTIC_RULE, {"offered": 0, "left": 2.2 * HOUR}, [ON_DEMAND] * 4),
        (StrategyName.TIME_SLICED, {"offered": 0, "left": 2.6 * HOUR}, [ON_DEMAND] * 4),
    ],
)
def test_a_known_state_has_a_known_plan(name, state, expected):
    assert planned(name, **state) == expected


@pytest.mark.parametrize(
    "state",
    [
        {"lifetime": 700.0},  # lives too short to pay for its start-up
        {"spot_price": 3.5},  # dearer than on-demand
        {"slots": [ON_DEMAND] * 4, "steady": 0},  # offered only since a moment ago: no reason to leave on-demand
    ],
)
def test_the_default_does_not_take_spot_that_does_not_pay(state):
    for left in (2.6 * HOUR, 5 * HOUR, 20 * HOUR):
        assert SPOT not in planned(StrategyName.ELASTIC_AUTO, **state, offered=4, left=left)


def test_uniform_progress_leaves_on_demand_only_when_far_enough_ahead():
    ahead = {"slots": [ON_DEMAND] * 4, "elapsed": 5 * HOUR, "left": 5 * HOUR, "total": 16 * HOUR}
    barely = view(**ahead, work=7.9 * HOUR)
    well = view(**ahead, work=7 * HOUR)
    assert UniformProgress().decide(barely).slot_pool[0].tolist() == [ON_DEMAND] * 4
    assert UniformProgress().decide(well).slot_pool[0].tolist() == [SPOT] * 4
    assert UniformProgress(hysteresis_startups=0).decide(barely).slot_pool[0].tolist() == [SPOT] * 4


def test_on_demand_starts_beyond_the_quota_spill_to_the_next_on_demand_pool():
    state = view(offered=0, on_demand_offered=1)
    plan = CapacityPlan(np.full((1, 4), ON_DEMAND), np.array([True]), np.array([0.0]))
    assert within_offers(state, plan).slot_pool[0].tolist() == [ON_DEMAND, EMPTY, EMPTY, EMPTY]


def test_every_strategy_name_has_a_strategy():
    assert set(STRATEGIES) == set(StrategyName)
