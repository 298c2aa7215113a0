"""Bounds agree with brute force on small cases, with each other, and react to slack and price as they must."""

from itertools import product

import numpy as np
import pytest
from capacity_scenarios import scenario
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_lab.bounds.linear import BoundJob, BoundMarket, linear_bound
from evalfleet_lab.bounds.single_slot import SlotWindow, single_slot_optimum
from evalfleet_lab.bounds.slotwise import Windows, slotwise_bound
from evalfleet_lab.simulate.replay import replay
from evalfleet_scaling.capacity.elastic_auto import ElasticAuto
from evalfleet_scaling.errors import ScalingInputError

ON_DEMAND_PRICE = 3.0


def brute_force(window: SlotWindow) -> float:
    """Try every sequence of states of one slot."""
    ticks, pools = window.counts.shape
    best = np.inf
    for path in product(range(pools + 2), repeat=ticks):
        cost, done, left, before = 0.0, 0, 0, 0
        for tick, state in enumerate(path):
            if state == 0:
                before = 0
                continue
            if state <= pools and window.counts[tick, state - 1] == 0:
                break
            left = window.startup_seconds if state != before else left
            price = ON_DEMAND_PRICE if state == pools + 1 else window.spot_price[tick, state - 1]
            cost += price * window.tick_seconds / 3600
            done += max(window.tick_seconds - left, 0)
            left, before = max(left - window.tick_seconds, 0), state
        else:
            if done >= window.work_seconds:
                best = min(best, cost)
    return best


@st.composite
def small_windows(draw):
    ticks, pools = draw(st.integers(2, 5)), draw(st.integers(1, 2))
    cells = st.lists(st.integers(0, 1), min_size=pools, max_size=pools)
    counts = np.array(draw(st.lists(cells, min_size=ticks, max_size=ticks)))
    prices = np.array([[draw(st.sampled_from([0.5, 1.0, 2.0])) for _ in range(pools)] for _ in range(ticks)])
    return SlotWindow(
        counts, prices, ON_DEMAND_PRICE, draw(st.integers(0, 14)), draw(st.integers(1, 4)), draw(st.integers(0, 5))
    )


def relaxations(window: SlotWindow) -> tuple[float, float]:
    g, d = float(window.tick_seconds), float(window.startup_seconds)
    work = float(window.work_seconds)
    sliced = slotwise_bound(
        Windows(window.counts[:, None], window.spot_price[:, None], ON_DEMAND_PRICE, np.array([work]), 1, g, d)
    )
    world = BoundMarket(window.counts, window.spot_price, ON_DEMAND_PRICE, g, d)
    return float(sliced[0]), linear_bound(world, [BoundJob(work, 1, 0, len(window.counts))])


@given(window=small_windows())
@settings(max_examples=60, deadline=None)
def test_the_dynamic_programme_is_the_optimum_and_the_linear_bounds_lie_below(window):
    optimum = single_slot_optimum(window)
    assert optimum == pytest.approx(brute_force(window))
    sliced, linear = relaxations(window)
    assert linear <= sliced * (1 + 1e-6) + 1e-9
    assert sliced <= optimum * (1 + 1e-6) + 1e-9


@given(seed=st.integers(0, 1000), width=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_slotwise_bound_equals_the_linear_programme(seed, width):
    rng = np.random.default_rng(seed)
    ticks = int(rng.integers(3, 30))
    counts = rng.integers(0, 6, (ticks, 1))
    price = rng.uniform(0.5, 2.0, (ticks, 1))
    g, d = 300.0, float(rng.choice([0.0, 200.0, 700.0]))
    work = float(rng.uniform(0, 1.05)) * width * (ticks * g - d)
    sliced = slotwise_bound(Windows(counts[:, None], price[:, None], ON_DEMAND_PRICE, np.array([work]), width, g, d))[0]
    linear = linear_bound(BoundMarket(counts, price, ON_DEMAND_PRICE, g, d), [BoundJob(work, width, 0, ticks)])
    assert sliced == pytest.approx(linear, rel=1e-6, abs=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_slack_capacity_and_cheaper_pools_never_raise_the_bound(seed):
    rng = np.random.default_rng(seed)
    ticks, width = 20, 3
    counts, price = rng.integers(0, 4, (ticks, 2)), rng.uniform(0.5, 3.5, (ticks, 2))
    job = BoundJob(float(rng.uniform(0.2, 0.8)) * width * ticks * 300.0, width, 0, ticks - 4)
    base = linear_bound(BoundMarket(counts, price, ON_DEMAND_PRICE, 300.0, 400.0), [job])
    later = BoundJob(job.work, width, 0, ticks)
    assert linear_bound(BoundMarket(counts, price, ON_DEMAND_PRICE, 300.0, 400.0), [later]) <= base + 1e-9
    more = counts + rng.integers(0, 2, counts.shape)
    assert linear_bound(BoundMarket(more, price, ON_DEMAND_PRICE, 300.0, 400.0), [job]) <= base + 1e-9
    cheaper = np.concatenate([price, np.full((ticks, 1), 0.4)], axis=1)
    wider = np.concatenate([counts, rng.integers(0, 3, (ticks, 1))], axis=1)
    assert linear_bound(BoundMarket(wider, cheaper, ON_DEMAND_PRICE, 300.0, 400.0), [job]) <= base + 1e-9


def test_two_jobs_share_what_is_offered():
    counts, price = np.full((10, 1), 2), np.full((10, 1), 1.0)
    world = BoundMarket(counts, price, ON_DEMAND_PRICE, 300.0, 0.0)
    job = BoundJob(2 * 10 * 300.0, 2, 0, 10)
    alone, both = linear_bound(world, [job]), linear_bound(world, [job, job])
    assert both == pytest.approx(alone + alone * ON_DEMAND_PRICE)
    assert (
        linear_bound(BoundMarket(counts, price, ON_DEMAND_PRICE, 300.0, 0.0, on_demand_quota=1), [job, job]) == np.inf
    )


def test_no_strategy_beats_the_bound():
    rng = np.random.default_rng(5)
    counts = np.repeat(rng.integers(0, 5, 12), 6)
    world = scenario(counts, work=0.6 * 4 * len(counts) * 300.0, width=4)
    windows = Windows(world.counts, world.spot_price, 3.0, world.work, 4, 300.0, 600.0)
    assert replay(world, ElasticAuto()).cost[0] >= slotwise_bound(windows)[0]


def test_impossible_work_costs_infinity():
    window = SlotWindow(np.zeros((3, 1), dtype=int), np.ones((3, 1)), ON_DEMAND_PRICE, 100, 10, 5)
    assert single_slot_optimum(window) == np.inf
    assert relaxations(window) == (np.inf, np.inf)


def test_several_pools_and_slots_need_the_linear_programme():
    with pytest.raises(ScalingInputError, match="linear_bound"):
        slotwise_bound(Windows(np.ones((3, 1, 2), dtype=int), np.ones((3, 1, 2)), 3.0, np.ones(1), 2, 1.0, 1.0))


def test_a_negative_work_is_refused():
    with pytest.raises(ScalingInputError):
        single_slot_optimum(SlotWindow(np.zeros((3, 1), dtype=int), np.ones((3, 1)), ON_DEMAND_PRICE, -1, 10, 5))
