"""Admission promises only what the on-demand quota and the money can keep, and names a deadline that works."""

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.admission import Capacity, admit, earliest_deadline, is_feasible, shortage
from evalfleet_scaling.promises import Promises, minimum_satisfactory_shares

HOUR = 3600.0


def promises(*rows: tuple[float, float, float], start_cost: float = 0.0) -> Promises:
    """Rows of (work hours, width, deadline hours); nothing runs yet."""
    table = np.array(rows, dtype=float).reshape(-1, 3)
    zeros = np.zeros(len(table))
    cost = np.full(len(table), start_cost)
    return Promises(table[:, 0] * HOUR, table[:, 1], table[:, 2] * HOUR, cost, zeros, zeros)


NONE = promises()


@pytest.mark.parametrize(
    ("rows", "quota", "feasible"),
    [
        ([(8, 8, 1)], 8, True),
        ([(8, 8, 1)], 7, False),
        ([(8, 4, 1)], 8, False),  # too narrow
        ([(4, 4, 1), (4, 4, 1)], 8, True),
        ([(4, 8, 1), (3.5, 8, 1)], 8, True),
        ([(4, 8, 1), (4, 8, 1)], 8, False),  # sharing workers costs something
        ([(4, 4, 1), (5, 4, 1)], 8, False),
        ([(100, 10, 20), (8, 8, 1)], 10, True),  # the long job steps back for an hour
        ([(100, 10, 10), (1, 1, 1)], 10, False),
        ([(0, 1, 1)], 1, True),
        ([(1, 1, 0)], 5, False),  # the deadline is now
        ([(1, 1, -5)], 5, False),  # or passed
    ],
)
def test_promises_are_feasible_exactly_when_a_schedule_exists(
    rows: list[tuple[float, float, float]], quota: int, feasible: bool
) -> None:
    assert is_feasible(promises(*rows), Capacity(quota)) is feasible


def test_each_worker_pays_for_its_start() -> None:
    assert is_feasible(promises((7, 8, 1), start_cost=450), Capacity(8))
    assert not is_feasible(promises((7, 8, 1), start_cost=451), Capacity(8))


def test_workers_that_run_already_pay_only_the_start_they_have_left() -> None:
    running = Promises(
        np.array([3600.0]), np.array([1.0]), np.array([3600.0]), np.array([600.0]), np.array([1.0]), np.array([0.0])
    )
    assert is_feasible(running, Capacity(1))
    late = Promises(
        running.work, running.width, running.deadline, running.start_cost, running.running, np.array([60.0])
    )
    assert not is_feasible(late, Capacity(1))


def test_without_quota_only_nothing_is_feasible() -> None:
    assert shortage(promises((1, 1, 1)), Capacity(0)) == "quota"
    assert is_feasible(promises((0, 1, 1)), Capacity(0))
    assert earliest_deadline(NONE, promises((1, 1, 1)), Capacity(0)) == inf


def test_money_due_before_the_deadline_must_be_there() -> None:
    dollar_an_hour = 1 / HOUR
    poor = Capacity(10, dollar_an_hour, left_this_day=5.0, per_day=6.0)
    assert is_feasible(promises((5, 5, 2)), poor)
    assert shortage(promises((6, 6, 2)), poor) == "money"
    assert is_feasible(promises((6, 6, 25)), poor)  # tomorrow brings six more
    monthly = Capacity(10, dollar_an_hour, left_this_month=5.0, per_month=1.0)
    assert shortage(promises((6, 6, 25)), monthly) == "money"


def test_the_next_days_money_may_be_spent_from_the_end_of_this_utc_day() -> None:
    before_midnight = Capacity(10, 1 / HOUR, left_this_day=5.0, per_day=6.0, day_ends_seconds=2 * HOUR)
    assert shortage(promises((6, 6, 1)), before_midnight) == "money"
    assert is_feasible(promises((6, 6, 3)), before_midnight)
    assert is_feasible(promises((17, 17, 27)), before_midnight)  # two midnights
    assert shortage(promises((18, 18, 25)), before_midnight) == "money"


def test_a_refused_request_leaves_room_for_the_next() -> None:
    admissions = admit(promises((8, 8, 2)), promises((9, 8, 1), (4, 8, 2)), Capacity(8), max_fills=100)
    assert admissions.admitted.tolist() == [False, True]
    assert admissions.decided.all()


def test_a_committed_job_that_cannot_make_it_does_not_block_others_for_ever() -> None:
    lost = promises((1000, 4, 1))
    assert admit(lost, promises((4, 4, 1)), Capacity(8), max_fills=100).admitted.tolist() == [True]


def test_too_many_requests_at_once_are_left_for_the_next_time() -> None:
    requests = promises(*[(9, 8, 1)] * 64)
    admissions = admit(NONE, requests, Capacity(8), max_fills=20)
    assert not admissions.admitted.any()
    assert 0 < admissions.decided.sum() < 64


ROWS = st.lists(st.tuples(st.floats(0, 50), st.integers(1, 16), st.floats(0.1, 30)), max_size=8)


def reference_shares(rows: Promises, quota: float) -> list[tuple[float, float]]:
    """The definition, slowly: try shares over explicit segments of free quota."""
    result = [(0.0, 0.0)] * len(rows)
    free: list[list[float]] = []  # [length, free]
    end = 0.0
    for row in rows.edf():
        if rows.deadline[row] > end:
            free.append([rows.deadline[row] - end, quota])
            end = rows.deadline[row]
        width, work, cost = rows.width[row], rows.work[row], rows.start_cost[row]

        def area(n: float, segments: list[list[float]] = free) -> float:
            return sum(length * min(n, room) for length, room in segments)

        if work <= 0:
            continue
        low, high = 0.0, width
        if area(width) < work + width * cost - 1e-6:
            low = width
        for _ in range(80):
            n = (low + high) / 2
            low, high = (low, n) if area(n) >= work + n * cost else (n, high)
        residual = max(0.0, min(work, work + width * cost - area(width))) if low == width else 0.0
        result[row] = (high, residual)
        for segment in free:
            segment[1] = max(segment[1] - high, 0.0)
    return result


@given(ROWS, st.integers(1, 40))
def test_the_single_pass_equals_the_definition(rows: list[tuple[float, float, float]], quota: int) -> None:
    table = promises(*rows)
    shares = minimum_satisfactory_shares(table, quota)
    for row, (workers, residual) in enumerate(reference_shares(table, quota)):
        assert shares.residual[row] == pytest.approx(residual, rel=1e-3, abs=2.0)
        if residual == 0 and shares.residual[row] == 0:
            assert shares.workers[row] == pytest.approx(workers, rel=1e-3, abs=1e-3)


@given(ROWS, st.tuples(st.floats(0.1, 50), st.integers(1, 16), st.floats(0.1, 30)), st.integers(1, 40))
@settings(max_examples=200)
def test_a_refused_jobs_named_earliest_deadline_is_accepted(
    rows: list[tuple[float, float, float]], asked: tuple[float, float, float], quota: int
) -> None:
    accepted = admit(NONE, promises(*rows, start_cost=300), Capacity(quota), max_fills=10_000)
    committed = promises(*rows, start_cost=300).take(np.flatnonzero(accepted.admitted))
    capacity = Capacity(quota, 1 / HOUR, left_this_day=200.0, per_day=300.0)
    admissions = admit(committed, promises(asked, start_cost=300), capacity, max_fills=10_000)
    if admissions.admitted[0] or admissions.earliest[0] == inf:
        return
    again = promises((asked[0], asked[1], admissions.earliest[0] / HOUR), start_cost=300)
    assert admit(committed, again, capacity, max_fills=10_000).admitted[0]


@given(ROWS, st.integers(1, 40))
def test_what_is_admitted_together_is_feasible_together(rows: list[tuple[float, float, float]], quota: int) -> None:
    table = promises(*rows, start_cost=120)
    admissions = admit(NONE, table, Capacity(quota), max_fills=10_000)
    assert is_feasible(table.take(np.flatnonzero(admissions.admitted)), Capacity(quota))


@given(ROWS, st.integers(1, 40))
def test_feasible_promises_keep_the_necessary_condition_of_edf(
    rows: list[tuple[float, float, float]], quota: int
) -> None:
    table = promises(*rows)
    if is_feasible(table, Capacity(quota)):
        order = table.edf()
        due = table.work[order].cumsum()
        assert (due <= quota * table.deadline[order] + 1e-3).all()
