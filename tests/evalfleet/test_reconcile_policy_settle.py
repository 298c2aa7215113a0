"""From worker pods to the bill: from binding to end, once, at the price they were started at, restarts or not."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_states import NOW, policy, pool

from evalfleet import limits
from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory, RunMemory
from evalfleet.controller.objects import INDICES
from evalfleet.controller.observe import Observer
from evalfleet.controller.settings import Settings
from evalfleet.kube.runs import RunBook
from evalfleet.manifests.names import ANNOTATION_PRICE, LABEL_POOL, LABEL_ROLE, LABEL_RUN
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.pools import node_pools, on_demand_price
from evalfleet.reconcile.policy.settle import account, job_money, paid_pod
from evalfleet_scaling.spend import SpendLedger, Total
from evalfleet_scaling.spend_document import ledger_from_document, ledger_to_document

RUN = "run-1"
ALIVE = frozenset({RUN})
PRICE, ON_DEMAND = Decimal(1), Decimal(4)

Object = dict[str, Any]


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def condition(kind: str, seconds: float, status: str = "True") -> Object:
    return {"type": kind, "status": status, "lastTransitionTime": stamp(after(seconds))}


def pod(
    uid: str = "a", bound: float | None = 0, ended: float | None = None, run: str = RUN, price: str = "1"
) -> Object:
    """A worker pod as the API server shows it."""
    status: Object = {"phase": "Running", "conditions": [], "containerStatuses": []}
    if bound is None:
        status |= {"phase": "Pending", "conditions": [condition("PodScheduled", 0, "False")]}
    else:
        status["conditions"].append(condition("PodScheduled", bound))
    if ended is not None:
        state = {"terminated": {"exitCode": 0, "finishedAt": stamp(after(ended))}}
        status |= {"phase": "Succeeded", "containerStatuses": [{"name": "worker", "state": state}]}
    labels = {LABEL_RUN: run, LABEL_ROLE: "work", LABEL_POOL: "spot"}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "w", "uid": f"worker of {run}", "controller": True}
    metadata = {"name": f"p-{uid}", "namespace": "ns", "uid": uid, "labels": labels, "ownerReferences": [owner]}
    return {"metadata": {**metadata, "annotations": {ANNOTATION_PRICE: price}}, "status": status}


def look(
    ledger: SpendLedger, seconds: float, *pods: Object, runs: frozenset[str] = ALIVE, price: Decimal = PRICE
) -> SpendLedger:
    """The ledger after a pass that saw these pods."""
    seen = [paid_pod(body, body["metadata"]["labels"][LABEL_RUN], "spot", (price, ON_DEMAND)) for body in pods]
    return account(ledger, seen, runs, after(seconds))


def paid_seconds(ledger: SpendLedger, run: str = RUN) -> float:
    return ledger.runs.get(run, Total()).worker_seconds


def test_a_pod_costs_nothing_before_it_has_a_node_and_everything_from_then_on() -> None:
    ledger = look(SpendLedger(), 100, pod(bound=None))
    assert (ledger.open, paid_seconds(ledger)) == ({}, 0)
    assert paid_seconds(look(ledger, 160, pod(bound=120))) == 40


def test_a_pod_is_paid_until_its_container_ended_and_not_until_somebody_looked() -> None:
    ledger = look(look(SpendLedger(), 10, pod()), 500, pod(ended=60))
    assert (ledger.open, paid_seconds(ledger)) == ({}, 60)
    again = look(ledger, 900, pod(ended=60))
    assert (again.open, paid_seconds(again)) == ({}, 60)


def test_a_pod_seen_first_when_it_had_ended_is_paid_all_the_same() -> None:
    assert paid_seconds(look(SpendLedger(), 3000, pod(ended=2400))) == 2400


def test_a_pod_whose_machine_vanished_is_paid_until_its_conditions_last_changed() -> None:
    body = pod()
    body["status"] |= {"phase": "Failed"}
    body["status"]["conditions"].append(condition("DisruptionTarget", 90))
    assert paid_seconds(look(look(SpendLedger(), 10, pod()), 1000, body)) == 90


@pytest.mark.parametrize(
    ("seconds", "paid"),
    [
        pytest.param(12, 12, id="between two passes: until the second"),
        pytest.param(3600, 10 + limits.LOST_POD_SECONDS, id="while no operator looked: a while later"),
        pytest.param(5, 10, id="and the clock went back: nothing is refunded"),
    ],
)
def test_a_pod_that_vanished_is_paid_for_a_bounded_time(seconds: float, paid: float) -> None:
    ledger = look(look(SpendLedger(), 10, pod()), seconds)
    assert (ledger.open, paid_seconds(ledger)) == ({}, paid)
    assert paid_seconds(look(ledger, seconds + 10, pod())) == paid  # a repeated event opens nothing


def test_a_deleted_job_is_forgotten_with_its_last_worker_and_the_day_keeps_what_it_cost() -> None:
    ledger = look(look(SpendLedger(), 10, pod()), 20, pod(), runs=frozenset())
    assert paid_seconds(ledger) == 20
    ledger = look(ledger, 40, pod(ended=30), runs=frozenset())
    assert (ledger.open, ledger.runs) == ({}, {})
    assert [total.worker_seconds for total in ledger.days.values()] == [30]


def test_the_money_of_a_job_is_what_it_cost_and_what_its_present_workers_cost() -> None:
    other = pod("c", run="run-2")
    ledger = look(SpendLedger(), 1800, pod("a"), pod("b", ended=900), other, runs=frozenset({RUN, "run-2"}))
    money = job_money(ledger, RUN, "EUR")
    assert money is not None
    assert (money.spent, money.on_demand_equivalent, money.per_hour, money.currency) == (
        Decimal("0.75"),
        Decimal(3),
        PRICE,
        "EUR",
    )
    assert job_money(ledger, "run-3", "EUR") is None


def observer(*pods: Object) -> Observer:
    cache = Cache(INDICES)
    for body in pods:
        cache.put("Pod", body)
    return Observer(
        cache, Memory(runs={RUN: RunMemory(worker_jobs={f"worker of {RUN}"})}), Settings().site, RunBook(None)
    )  # type: ignore[arg-type]


def prices(seen: Observer, runs: Iterable[str] = (RUN,), open_uids: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    by = policy(pool("spot", pricePerHour="9.00"), pool("steady", "OnDemand", pricePerHour="5.00"))
    found = seen.paid_pods("ns", dict.fromkeys(runs), by, set(open_uids))  # type: ignore[arg-type]
    return {one.uid: (str(one.price_per_hour), str(one.on_demand_price_per_hour)) for one in found}


def test_a_worker_keeps_the_price_it_was_started_at_whatever_the_policy_says_now() -> None:
    assert prices(observer(pod("a", price="1.25"))) == {"a": ("1.25", "5.00")}


@pytest.mark.parametrize("price", ["free", "NaN", "-1", "Infinity", "1e999999"])
def test_a_pod_with_an_absurd_price_harms_no_other(price: str) -> None:
    assert prices(observer(pod("a", price=price), pod("b"))) == {"b": ("1", "5.00")}


def test_pods_of_a_deleted_job_are_paid_as_long_as_their_bill_is_open_and_those_of_others_never() -> None:
    seen = observer(pod("a", run="gone"), pod("b", run="of another policy"))
    assert prices(seen, open_uids=["a"]) == {"a": ("1", "5.00")}


def test_a_pod_of_a_stranger_is_not_paid_though_it_has_our_labels_and_a_price() -> None:
    forged, alone = pod("a", price="999999999"), pod("b", price="999999999")
    forged["metadata"]["ownerReferences"][0]["uid"] = "a Job of somebody else"
    del alone["metadata"]["ownerReferences"]
    assert prices(observer(forged, alone, pod("c"))) == {"c": ("1", "5.00")}


LIVES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 400), st.sampled_from(["0.50", "1", "3.37"])), min_size=1, max_size=5
)
PASSES = st.lists(st.tuples(st.integers(1, 120), st.booleans(), st.booleans()), max_size=25)


def shown(lives: list[tuple[int, int, str]], seconds: int) -> list[Object]:
    """The pods that exist at a time; ended ones stay as they are."""
    return [
        pod(str(number), start, start + life if start + life <= seconds else None, price=price)
        for number, (start, life, price) in enumerate(lives)
        if start <= seconds
    ]


def bill(lives: list[tuple[int, int, str]], passes: list[tuple[int, bool, bool]], *, crashes: bool) -> SpendLedger:
    """The ledger in the end, where each pass may be written, and an operator may die after it, written or not."""
    ledger = written = SpendLedger()
    now = 0
    for wait, is_written, dies in [*passes, (1000, True, False)]:
        now += wait
        ledger = billed(ledger, shown(lives, now), now)
        if is_written:
            written = ledger_from_document(ledger_to_document(ledger))
        if dies and crashes:
            ledger = written
    return ledger


def billed(ledger: SpendLedger, pods: list[Object], now: int) -> SpendLedger:
    seen = [
        paid_pod(body, RUN, "spot", (Decimal(body["metadata"]["annotations"][ANNOTATION_PRICE]), ON_DEMAND))
        for body in pods
    ]
    return account(ledger, seen, ALIVE, after(now))


@given(LIVES, PASSES)
def test_every_pod_second_is_paid_exactly_once_whatever_was_written_before_an_operator_died(
    lives: list[tuple[int, int, str]], passes: list[tuple[int, bool, bool]]
) -> None:
    crashed, calm = bill(lives, passes, crashes=True), bill(lives, passes, crashes=False)
    assert crashed.runs == calm.runs
    expected = sum(Decimal(price) * life for _, life, price in lives) / 3600
    assert abs(crashed.runs.get(RUN, Total()).cost - expected) < Decimal("1e-20")
    assert not crashed.open
    for totals in (crashed.hours, crashed.days, crashed.months):
        paid = sum((total.price_milliseconds for total in totals.values()), Decimal(0))
        assert paid == crashed.runs.get(RUN, Total()).price_milliseconds


@given(LIVES, PASSES)
def test_pods_that_vanish_unseen_never_cost_more_than_the_time_nobody_looked(
    lives: list[tuple[int, int, str]], passes: list[tuple[int, bool, bool]]
) -> None:
    ledger, now, longest = SpendLedger(), 0, 0
    for wait, _, _ in [*passes, (130, True, False)]:
        now, longest = now + wait, max(longest, wait)
        ledger = billed(ledger, [body for body in shown(lives, now) if body["status"]["phase"] == "Running"], now)
    most = sum(life + longest for _, life, _ in lives)
    assert paid_seconds(ledger) <= most


def test_a_clock_that_is_ahead_ends_no_pod_in_the_future() -> None:
    """What a node writes counts up to the API server's now: ten hours of skew are not ten hours on the bill."""
    running = look(SpendLedger(), 2, pod())
    ahead = look(running, 4, pod(ended=36004))
    assert ahead.runs[RUN].cost == look(running, 4, pod(ended=4)).runs[RUN].cost
    assert look(ahead, 8, pod(ended=36004)).runs == ahead.runs  # closed once


def unreachable(since: float) -> Object:
    """A running pod that the node controller has made not Ready, as its node does not answer."""
    body = pod()
    body["status"]["containerStatuses"] = [{"name": "worker", "ready": True, "state": {"running": {}}}]
    body["status"]["conditions"].append(condition("Ready", since, "False"))
    return body


def test_a_pod_on_a_node_that_does_not_answer_is_paid_until_the_last_sign_of_it() -> None:
    ledger = look(look(SpendLedger(), 50, pod()), 400, unreachable(60))
    assert paid_seconds(ledger) == 60
    assert paid_seconds(look(ledger, 900, unreachable(60))) == 60
    assert paid_seconds(look(look(ledger, 900, unreachable(60)), 901)) == 60  # it is gone, and was not seen again
    assert paid_seconds(look(ledger, 1000, pod())) == 1000  # it was there all the time


def test_a_container_that_is_not_ready_on_a_node_that_answers_is_paid() -> None:
    body = unreachable(60)
    body["status"]["containerStatuses"][0]["ready"] = False
    assert paid_seconds(look(SpendLedger(), 400, body)) == 400


@pytest.mark.parametrize(
    ("pools", "price"),
    [
        ([pool("spot"), pool("steady", "OnDemand", pricePerHour="5.00")], "5.00"),
        ([pool("spot"), pool("ours", "Reserved", pricePerHour="0")], None),
        ([pool("ours", "Reserved", pricePerHour="0"), pool("steady", "OnDemand", pricePerHour="5.00")], "5.00"),
        ([pool("free", "OnDemand", pricePerHour="0"), pool("steady", "OnDemand", pricePerHour="5.00")], "5.00"),
        ([pool("spot")], None),
    ],
)
def test_what_is_reserved_or_free_is_not_what_on_demand_costs(pools: list[Object], price: str | None) -> None:
    found = on_demand_price(node_pools(policy(*pools)))
    assert found == (None if price is None else Decimal(price))


def test_without_an_on_demand_price_nothing_is_saved() -> None:
    (found,) = observer(pod("a", price="1.25")).paid_pods("ns", {RUN: 0}, policy(pool("spot")), set())
    assert found.on_demand_price_per_hour == found.price_per_hour == Decimal("1.25")
    assert not found.scoring  # nobody has heard of it
