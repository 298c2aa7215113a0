"""The queue behind every replay of worker policies: nothing is lost, start-up is paid, the newest go first."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.forecast.fluid_queue import (
    FluidQueue,
    Keep,
    Replay,
    empty_path,
    replay,
    waits,
    weighted_quantile,
)
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import (
    InvalidPolicyError,
    Observation,
    PolicyFactory,
    Scenarios,
    Setting,
    scenarios_of,
)

ONE = Setting(1.0, 10.0, 0.0)


def scripted(plan: FloatArray) -> PolicyFactory:
    """Wants `plan[minute]` workers in every scenario."""

    class Scripted:
        def __init__(self, scenarios: Scenarios) -> None:
            self.count = len(scenarios)

        def wanted(self, seen: Observation) -> FloatArray:
            return np.full(self.count, plan[seen.minute])

    return Scripted


def scenarios(values: FloatArray, lead: int = 2, tolerated: int = 3, setting: Setting = ONE) -> Scenarios:
    return scenarios_of([Series(np.asarray(values, dtype=np.float64))], [lead], tolerated, [setting])


DEMANDS = st.lists(st.one_of(st.floats(0, 1e5), st.just(float("nan"))), min_size=5, max_size=60)


@settings(max_examples=150, deadline=None)
@given(DEMANDS, st.lists(st.floats(0, 50), min_size=60, max_size=60), st.integers(1, 9), st.floats(0, 1))
def test_what_arrives_is_served_or_waits_and_counts_are_never_negative(
    demand: list[float], plan: list[float], lead: int, keep: float
) -> None:
    world = scenarios(np.array(demand), lead, 3, Setting(1.0, 10.0, keep))
    run, path = Replay(scripted(np.array(plan)), world), empty_path(world)
    for minute in range(len(demand)):
        run.advance(minute + 1, path)
        queue = run.queue
        arrived = np.nansum(demand[: minute + 1])
        assert path.served[minute, 0] + queue.backlog[0] == pytest.approx(arrived, rel=1e-9, abs=1e-6)
        assert min(queue.backlog[0], queue.running[0], queue.starting[0]) >= 0
        assert queue.starting[0] == pytest.approx(queue.ring.sum())
        assert queue.pending_credit[0] == pytest.approx(credit(queue, lead), abs=1e-6)


def credit(queue: FluidQueue, lead: int) -> float:
    """Summed anew: workers that begin after j more minutes serve lead - j minutes of the lead time."""
    return float(sum(60 * (lead - j) * queue.ring[(queue.minute + j) % queue.size, 0] for j in range(lead)))


@settings(max_examples=100, deadline=None)
@given(DEMANDS, st.lists(st.floats(0, 50), min_size=60, max_size=60), st.integers(0, 6))
def test_late_work_is_part_of_the_work_and_agrees_with_the_waits(
    demand: list[float], plan: list[float], tolerated: int
) -> None:
    world = scenarios(np.array(demand), 2, tolerated)
    run, path = Replay(scripted(np.array(plan)), world), empty_path(world)
    totals = run.advance(path=path)
    work, late = float(totals.work.sum()), float(totals.late.sum())
    assert -1e-6 <= late <= work + 1e-6
    known = float(np.nansum(demand[: max(0, len(demand) - tolerated)]))
    assert work == pytest.approx(known, abs=1e-5)
    waited, sizes = waits(path.arrived[:, 0], path.served[:, 0])
    # Work of the last minutes is in the waits, but its lateness was not known in time to be booked.
    early = np.cumsum(sizes) <= known + 1e-6
    assert late == pytest.approx(float(sizes[early & (waited > tolerated)].sum()), rel=1e-6, abs=1e-2)


def test_a_worker_serves_after_its_start_up_and_is_paid_from_the_order_on() -> None:
    world = scenarios(np.array([600.0, 0, 0, 0, 0, 0]), lead=2)
    run, path = Replay(scripted(np.full(6, 1.0)), world), empty_path(world)
    totals = run.advance(path=path)
    assert path.running[:, 0].tolist() == [0, 0, 0, 1, 1, 1]
    assert path.starting[:, 0].tolist() == [0, 1, 1, 0, 0, 0]
    assert path.served[:, 0].tolist() == [0, 0, 0, 60, 120, 180]
    assert totals.paid.sum() == 60 * 5


def test_of_too_many_the_newest_starting_go_first_then_the_running() -> None:
    queue = FluidQueue(scenarios(np.zeros(9), lead=3))
    for target in (2, 5, 9):
        queue.resize(np.array([float(target)]))
        queue.serve(np.zeros(1))
    queue.resize(np.array([4.0]))
    assert (queue.running[0], queue.starting[0]) == (0, 4)
    queue.serve(np.zeros(1))
    assert (queue.running[0], queue.starting[0]) == (2, 2)
    queue.resize(np.array([1.0]))
    assert (queue.running[0], queue.starting[0], queue.pending_credit[0]) == (1, 0, 0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_keeping_is_the_largest_number_wanted_of_late(wanted: list[int], minutes: list[int]) -> None:
    keep = Keep(np.array(minutes))
    for now, number in enumerate(wanted):
        target = keep.target(np.full(len(minutes), float(number)))
        assert target.tolist() == [max(wanted[max(0, now - kept) : now + 1]) for kept in minutes]


def test_an_unobserved_minute_is_neither_work_nor_cost_nor_seen_as_zero() -> None:
    seen: list[float] = []

    class Curious:
        def __init__(self, world: Scenarios) -> None:
            self.world = world

        def wanted(self, now: Observation) -> FloatArray:
            seen.append(float(now.arrived[0]))
            return np.ones(1)

    gap = np.array([60.0, np.nan, 60.0, 0.0, 0.0, 0.0])
    totals = replay(Curious, scenarios(gap, lead=1, tolerated=1))
    assert np.isnan(seen[1])
    assert totals.minutes.sum() == 5
    assert totals.work.sum() == 120
    assert totals.paid.sum() == 60 * 4


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_a_policy_that_wants_nonsense_is_refused(number: float) -> None:
    with pytest.raises(InvalidPolicyError, match="finite number"):
        replay(scripted(np.full(3, number)), scenarios(np.ones(3)))


@pytest.mark.parametrize(
    ("leads", "tolerated", "values", "says"),
    [
        ([0], 3, [np.ones(3)], "at least 1 min"),
        ([2], -1, [np.ones(3)], "not negative"),
        ([2], 3, [np.ones(3), np.ones(4)], "one length"),
        ([], 3, [np.ones(3)], "at least one"),
    ],
)
def test_scenarios_that_make_no_sense_are_refused(
    leads: list[int], tolerated: int, values: list[FloatArray], says: str
) -> None:
    with pytest.raises(InvalidPolicyError, match=says):
        scenarios_of([Series(one) for one in values], leads, tolerated, [ONE])


def test_scenarios_run_side_by_side_as_they_run_alone() -> None:
    rng = np.random.default_rng(3)
    series = [Series(rng.exponential(300, 80)) for _ in range(2)]
    plan = rng.integers(0, 9, 80).astype(np.float64)
    grid = [Setting(1.0, 10.0, keep) for keep in (0.0, 0.5, 1.0)]
    together = replay(scripted(plan), scenarios_of(series, [2, 7], 3, grid)).paid[0].reshape(2, 2, 3)
    for row, one in enumerate(series):
        for column, lead in enumerate((2, 7)):
            for place, setting in enumerate(grid):
                alone = replay(scripted(plan), scenarios_of([one], [lead], 3, [setting])).paid.sum()
                assert alone == pytest.approx(together[row, column, place])


def test_the_quantile_of_waits_is_weighted_by_work() -> None:
    assert weighted_quantile(np.array([5.0, 0.0]), np.array([1.0, 99.0]), 0.99) == 0.0
    assert weighted_quantile(np.array([5.0, 0.0]), np.array([2.0, 98.0]), 0.99) == 5.0
    assert weighted_quantile(np.zeros(0), np.zeros(0), 0.99) == 0.0
