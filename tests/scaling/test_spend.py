"""The spend ledger counts every pod-second once, whatever happens to the events."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalfleet_scaling.errors import InvalidWorkerError
from evalfleet_scaling.spend import (
    SpendLedger,
    Total,
    WorkerStarted,
    change_price,
    close_worker,
    ends_of_periods,
    forget_old,
    forget_run,
    milliseconds,
    observe_worker,
    open_worker,
    settle,
)
from evalfleet_scaling.spend_document import LedgerUnreadableError, ledger_from_document, ledger_to_document

T0 = datetime(2026, 3, 31, 23, 30, tzinfo=UTC).timestamp()


def started(uid: str = "pod-1", run: str = "run-a", since: float = T0, price: str = "1.20") -> WorkerStarted:
    return WorkerStarted(uid, run, "spot-a", Decimal(price), Decimal("3.60"), since)


def test_an_hour_of_one_worker_costs_its_hourly_price() -> None:
    ledger = settle(open_worker(SpendLedger(), started()), T0 + 3600)
    total = ledger.runs["run-a"]
    assert (total.cost, total.on_demand_equivalent, total.saving) == (Decimal("1.20"), Decimal("3.60"), Decimal("2.40"))
    assert total.worker_seconds == 3600


def test_a_worker_over_midnight_of_the_last_day_is_split_between_hours_days_and_months() -> None:
    ledger = settle(open_worker(SpendLedger(), started()), T0 + 3600)
    assert {key: total.cost for key, total in ledger.hours.items()} == {
        "2026-03-31T23": Decimal("0.60"),
        "2026-04-01T00": Decimal("0.60"),
    }
    assert {key: total.cost for key, total in ledger.days.items()} == {
        "2026-03-31": Decimal("0.60"),
        "2026-04-01": Decimal("0.60"),
    }
    assert set(ledger.months) == {"2026-03", "2026-04"}
    assert ledger.spent(T0 + 3600) == (Decimal("0.60"), Decimal("0.60"), Decimal("0.60"))


def test_settling_twice_or_with_an_older_clock_adds_nothing() -> None:
    once = settle(open_worker(SpendLedger(), started()), T0 + 100)
    assert settle(once, T0 + 100) == once
    assert settle(once, T0 + 50) == once


def test_closing_settles_the_rest_and_a_second_close_or_open_changes_nothing() -> None:
    ledger = close_worker(settle(open_worker(SpendLedger(), started()), T0 + 100), "pod-1", T0 + 360)
    assert ledger.runs["run-a"].worker_seconds == 360
    assert not ledger.open
    assert close_worker(ledger, "pod-1", T0 + 999) == ledger
    assert open_worker(ledger, started()) == ledger


def test_a_price_change_bills_each_part_at_its_price() -> None:
    ledger = open_worker(SpendLedger(), started(price="1"))
    ledger = change_price(ledger, "pod-1", Decimal(2), T0 + 1800)
    assert settle(ledger, T0 + 3600).runs["run-a"].cost == Decimal("1.5")


def test_forgetting_tombstones_still_refuses_a_repeated_event() -> None:
    ledger = close_worker(open_worker(SpendLedger(), started()), "pod-1", T0 + 60)
    later = forget_old(ledger, T0 + 3 * 86400)
    assert not later.closed
    assert open_worker(later, started()) == later
    fresh = open_worker(later, started("pod-2", since=T0 + 3 * 86400 - 10))
    assert "pod-2" in fresh.open


def test_old_periods_are_dropped_and_recent_ones_kept() -> None:
    ledger = close_worker(open_worker(SpendLedger(), started()), "pod-1", T0 + 60)
    assert "2026-03" in forget_old(ledger, T0 + 100 * 86400).months
    assert not forget_old(ledger, T0 + 100 * 86400).days
    assert not forget_old(ledger, T0 + 5 * 86400).hours


def test_a_run_is_forgotten_only_without_open_workers() -> None:
    ledger = settle(open_worker(SpendLedger(), started()), T0 + 10)
    assert forget_run(ledger, "run-a") == ledger
    assert "run-a" not in forget_run(close_worker(ledger, "pod-1", T0 + 20), "run-a").runs


def test_an_absurd_clock_jump_is_not_billed() -> None:
    ledger = open_worker(SpendLedger(), started(since=0.0))
    assert settle(ledger, 1e12) == ledger


@pytest.mark.parametrize("price", [Decimal("NaN"), Decimal(-1), None, 1.5])
def test_a_missing_or_impossible_price_is_a_typed_error(price: Decimal) -> None:
    with pytest.raises(InvalidWorkerError, match="price"):
        WorkerStarted("u", "r", "p", price, Decimal(1), 0.0)


def test_a_time_that_is_no_number_is_a_typed_error() -> None:
    with pytest.raises(InvalidWorkerError, match="nan"):
        settle(SpendLedger(), float("nan"))


def test_the_ledger_survives_its_document_exactly() -> None:
    ledger = settle(open_worker(SpendLedger(), started()), T0 + 1234.567)
    ledger = close_worker(open_worker(ledger, started("pod-2", "run-b")), "pod-2", T0 + 77)
    assert ledger_from_document(ledger_to_document(ledger)) == ledger


@pytest.mark.parametrize(
    "document", [{}, {"version": 2}, {"version": 1, "open": [{}]}, {"version": 1, "runs": {"a": [1]}}]
)
def test_an_unreadable_document_is_said_and_never_replaced_silently(document: dict[str, object]) -> None:
    with pytest.raises(LedgerUnreadableError, match="spend ledger"):
        ledger_from_document(document)


UIDS = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(0, 20_000)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), UIDS, TIMES),
        st.tuples(st.just("settle"), st.just(""), TIMES),
        st.tuples(st.just("close"), UIDS, TIMES),
        st.tuples(st.just("price"), UIDS, TIMES),
        st.tuples(st.just("forget"), st.just(""), TIMES),
        st.tuples(st.just("reload"), st.just(""), TIMES),
    ),
    max_size=40,
)


def play(ledger: SpendLedger, event: tuple[str, str, int]) -> SpendLedger:
    kind, uid, at = event
    if kind == "open":
        return open_worker(ledger, WorkerStarted(uid, f"run-{uid}", "p", Decimal("1.1"), Decimal("2.2"), float(at)))
    if kind == "settle":
        return settle(ledger, float(at))
    if kind == "close":
        return close_worker(ledger, uid, float(at))
    if kind == "price":
        return change_price(ledger, uid, Decimal(at % 7), float(at))
    if kind == "forget":
        return forget_old(ledger, float(at))
    return ledger_from_document(ledger_to_document(ledger))


@given(EVENTS)
def test_no_sequence_of_events_settles_a_pod_second_twice(events: list[tuple[str, str, int]]) -> None:
    ledger = SpendLedger()
    lived: dict[str, tuple[int, int]] = {}  # uid -> first open, last moment anything was said about it
    for event in events:
        before = ledger
        ledger = play(ledger, event)
        kind, uid, at = event
        if kind == "open" and uid not in lived:
            lived[uid] = (at, at)
        # Money never shrinks, and an entry never moves back.
        for run, total in before.runs.items():
            assert ledger.runs[run].price_milliseconds >= total.price_milliseconds
        for name in set(before.open) & set(ledger.open):
            assert ledger.open[name].settled_until_ms >= before.open[name].settled_until_ms
    latest = max((at for _, _, at in events), default=0)
    for uid, (since, _) in lived.items():
        billed = ledger.runs.get(f"run-{uid}", Total()).worker_milliseconds
        assert billed <= max(0, milliseconds(latest) - milliseconds(since))


@given(EVENTS)
def test_every_event_repeated_at_once_changes_nothing_more(events: list[tuple[str, str, int]]) -> None:
    once = SpendLedger()
    twice = SpendLedger()
    for event in events:
        once = play(once, event)
        twice = play(play(twice, event), event)
    assert once == twice


@given(st.lists(st.integers(1, 10_000_000), min_size=1, max_size=20))
def test_how_often_it_is_settled_does_not_change_the_money(moments: list[int]) -> None:
    end = max(moments) / 1000
    often = open_worker(SpendLedger(), started("a", since=0.0, price="0.37"))
    rarely = settle(often, end)
    for moment in sorted(moments):
        often = settle(often, moment / 1000)
    assert often == rarely


@given(EVENTS)
def test_runs_hours_days_and_months_agree(events: list[tuple[str, str, int]]) -> None:
    ledger = SpendLedger()
    for event in events:
        if event[0] != "forget":
            ledger = play(ledger, event)
    sums = {
        sum((total.price_milliseconds for total in totals.values()), Decimal(0))
        for totals in (ledger.runs, ledger.hours, ledger.days, ledger.months)
    }
    assert len(sums) == 1


def test_a_tombstone_lives_as_long_as_its_pod_and_a_day_in_any_case() -> None:
    ended = close_worker(open_worker(SpendLedger(), started()), started().pod_uid, T0 + 60)
    for later, present, kept in ((7200, (), True), (90000, (), False), (30 * 86400, (started().pod_uid,), True)):
        ledger = forget_old(ended, T0 + 60 + later, present)
        assert (started().pod_uid in ledger.closed) is kept
        assert open_worker(ledger, started()).open == {}


def test_tombstones_of_pods_that_are_gone_do_not_pile_up_behind_a_worker_that_runs_for_weeks() -> None:
    long = open_worker(SpendLedger(), started("long"))
    ended = close_worker(open_worker(long, started("short")), "short", T0 + 60)
    assert forget_old(ended, T0 + 7 * 86400, ("long",)).closed == {}


def test_a_silent_node_is_not_paid_until_it_answers_again() -> None:
    uid = started().pod_uid
    open_ledger = settle(open_worker(SpendLedger(), started()), T0 + 60)
    silent = settle(observe_worker(open_ledger, uid, True, T0 + 100), T0 + 900)
    assert silent.runs["run-a"].worker_seconds == 100
    assert settle(observe_worker(silent, uid, True, T0 + 100), T0 + 950).runs == silent.runs
    assert settle(observe_worker(silent, uid, True, None), T0 + 1000).runs["run-a"].worker_seconds == 1000
    assert close_worker(silent, uid, T0 + 300).runs["run-a"].worker_seconds == 300


def test_only_scored_time_counts_as_saved() -> None:
    starting = open_worker(SpendLedger(), replace(started(), scoring=False))
    scoring = observe_worker(settle(starting, T0 + 1800), started().pod_uid, True, None)
    total = settle(scoring, T0 + 3600).runs["run-a"]
    assert (total.cost, total.on_demand_equivalent) == (Decimal("1.20"), Decimal("1.80"))


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        ("2026-01-01T00:00:00+00:00", 86400, 31 * 86400),
        ("2026-02-28T23:59:59+00:00", 1, 1),
        ("2024-02-29T12:00:00+00:00", 43200, 43200),
    ],
)
def test_days_and_months_end_in_utc(now: str, day: float, month: float) -> None:
    assert ends_of_periods(datetime.fromisoformat(now).timestamp()) == (day, month)
