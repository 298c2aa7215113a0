"""Spend ledgers in ConfigMaps of a real API server: written when it matters, never over somebody else's words."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import pytest
from cluster_client import Client

from evalfleet import limits
from evalfleet.controller.ledgers import sweep
from evalfleet.kube.client import Kube, KubeError
from evalfleet.kube.resources import Key
from evalfleet.kube.spend import LedgerUnwritableError, SpendBook
from evalfleet.local.cluster import LocalCluster
from evalfleet_scaling.spend import SpendLedger, WorkerStarted, close_worker, open_worker, settle
from evalfleet_scaling.spend_document import LedgerUnreadableError, ledger_from_document, ledger_to_document

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

POLICY = Key("ScalingPolicy", "team", "default")
NAME = "spend.team.default"
T0 = 1_767_268_800.0
"""2026-01-01 12:00 UTC"""


def running(*uids: str) -> SpendLedger:
    """A ledger with workers that are being paid for since T0."""
    ledger = SpendLedger()
    for uid in uids:
        ledger = open_worker(ledger, WorkerStarted(uid, "run", "spot", Decimal(1), Decimal(3), T0))
    return ledger


class Place:
    """One namespace of the API server: books of operators, and what lies there."""

    def __init__(self, cluster: LocalCluster, client: Client, namespace: str) -> None:
        self._cluster, self._client, self._namespace = cluster, client, namespace
        self._folder = f"/api/v1/namespaces/{namespace}/configmaps"

    def do(self, work: Callable[[Callable[[], SpendBook]], Awaitable[None]]) -> None:
        """Run `work`, which is given a maker of books: each is that of a process of its own."""

        async def connected() -> None:
            kube = await Kube.connect(self._cluster.kubeconfig)
            try:
                await work(lambda: SpendBook(kube, self._namespace))
            finally:
                await kube.close()

        asyncio.run(connected())

    def written(self) -> dict[str, Any] | None:
        """The ConfigMap as it is."""
        return self._client.find(f"{self._folder}/{NAME}")

    def ledger(self) -> SpendLedger:
        """The ledger as it is written."""
        found = self.written()
        assert found is not None
        return ledger_from_document(json.loads(found["data"]["ledger.json"]))

    def write(self, text: str) -> None:
        """Somebody else's write."""
        self._client.patch(f"{self._folder}/{NAME}", {"data": {"ledger.json": text}})

    def label(self) -> None:
        """A harmless write of somebody else."""
        self._client.patch(f"{self._folder}/{NAME}", {"metadata": {"labels": {"seen-by": "person"}}})

    def create(self, data: dict[str, str]) -> None:
        """Somebody else's ConfigMap under the ledger's name."""
        self._client.create(self._folder, {"metadata": {"name": NAME}, "data": data})

    def delete(self) -> None:
        """Somebody deletes it."""
        self._client.delete(f"{self._folder}/{NAME}")


@pytest.fixture
def place(shared_cluster: LocalCluster, cluster_client: Client, namespace: str) -> Place:
    return Place(shared_cluster, cluster_client, namespace)


def test_nothing_is_written_before_money_flows_and_workers_that_come_and_go_are_written_at_once(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        assert await first.read(POLICY, T0) == SpendLedger()
        await first.keep(POLICY, SpendLedger(), T0)
        assert place.written() is None
        await first.keep(POLICY, running("a"), T0)
        assert set(place.ledger().open) == {"a"}
        ended = close_worker(running("a"), "a", T0 + 20)
        await first.keep(POLICY, ended, T0 + 21)
        assert place.ledger() == ended
        assert await book().read(POLICY, T0) == ended

    place.do(work)


def test_while_money_flows_it_is_written_once_in_a_while_and_read_from_memory(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        soon = settle(running("a"), T0 + limits.LEDGER_SAVE_SECONDS - 1)
        await first.keep(POLICY, soon, T0 + limits.LEDGER_SAVE_SECONDS - 1)
        assert (place.ledger().runs, await first.read(POLICY, T0)) == ({}, soon)
        later = settle(soon, T0 + limits.LEDGER_SAVE_SECONDS)
        await first.keep(POLICY, later, T0 + limits.LEDGER_SAVE_SECONDS)
        assert place.ledger() == later

    place.do(work)


def test_a_write_that_somebody_else_overtook_is_refused_and_what_they_wrote_is_read(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        old, new = book(), book()
        await old.read(POLICY, T0)
        await old.keep(POLICY, running("a"), T0)
        taken_over = settle(await new.read(POLICY, T0), T0 + 30)
        await new.keep(POLICY, close_worker(taken_over, "a", T0 + 40), T0 + 41)
        with pytest.raises(KubeError) as refused:
            await old.keep(POLICY, running("a", "b"), T0 + 42)
        assert refused.value.status == 409
        assert await old.read(POLICY, T0) == place.ledger() == close_worker(taken_over, "a", T0 + 40)

    place.do(work)


def test_two_first_writers_do_not_overwrite_each_other(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first, second = book(), book()
        await first.read(POLICY, T0)
        await second.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        with pytest.raises(KubeError):
            await second.keep(POLICY, running("b"), T0)
        assert set((await second.read(POLICY, T0)).open) == {"a"}

    place.do(work)


def test_a_label_that_somebody_sets_costs_one_repeated_pass_and_no_money(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        place.label()
        ended = close_worker(running("a"), "a", T0 + 20)
        with pytest.raises(KubeError):
            await first.keep(POLICY, ended, T0 + 21)
        again = close_worker(await first.read(POLICY, T0), "a", T0 + 20)
        await first.keep(POLICY, again, T0 + 22)
        assert place.ledger() == ended
        found = place.written()
        assert found is not None
        assert found["metadata"]["labels"]["seen-by"] == "person"

    place.do(work)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param({"ledger.json": "{"}, id="cut off"),
        pytest.param({"ledger.json": "[]"}, id="no document"),
        pytest.param({"ledger.json": '{"version": 9}'}, id="of a later version"),
        pytest.param({"ledger.json": '{"version": 1, "runs": {"a": ["x", "1", 1]}}'}, id="a sum that is none"),
        pytest.param({"other": ""}, id="somebody else's"),
    ],
)
def test_a_damaged_ledger_is_said_and_left_as_it_is(place: Place, data: dict[str, str]) -> None:
    place.create(data)
    before = place.written()

    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        for _ in range(2):
            with pytest.raises(LedgerUnreadableError, match=NAME):
                await first.read(POLICY, T0)

    place.do(work)
    assert place.written() == before


def test_a_ledger_damaged_while_the_operator_only_watches_is_noticed_soon_and_left_as_it_is(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        place.write("nonsense")
        before = place.written()
        assert await first.read(POLICY, T0 + limits.LEDGER_LOOK_SECONDS - 1) == running("a")
        for later in (0, 1):
            with pytest.raises(LedgerUnreadableError, match=NAME):
                await first.read(POLICY, T0 + limits.LEDGER_LOOK_SECONDS + later)
        assert place.written() == before

    place.do(work)


def test_a_ledger_that_somebody_mends_is_believed_soon_and_one_of_ours_is_not_read_anew(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        unsaved = settle(running("a"), T0 + 5)
        await first.keep(POLICY, unsaved, T0 + 5)
        assert await first.read(POLICY, T0 + limits.LEDGER_LOOK_SECONDS) == unsaved
        mended = close_worker(running("a"), "a", T0 + 20)
        place.write(json.dumps(ledger_to_document(mended)))
        assert await first.read(POLICY, T0 + 2 * limits.LEDGER_LOOK_SECONDS) == mended

    place.do(work)


def test_a_ledger_deleted_while_the_operator_only_watches_is_no_money_forgotten(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        spent = settle(running("a"), T0 + 5)
        await first.keep(POLICY, spent, T0 + 5)
        place.delete()
        assert await first.read(POLICY, T0 + 5 + limits.LEDGER_LOOK_SECONDS) == spent
        ended = close_worker(spent, "a", T0 + 20)
        await first.keep(POLICY, ended, T0 + 21)
        assert place.ledger() == ended

    place.do(work)


def test_a_ledger_damaged_while_the_operator_runs_is_noticed_at_the_next_write_and_left_as_it_is(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        place.write("nonsense")
        before = place.written()
        with pytest.raises(KubeError):
            await first.keep(POLICY, running("a", "b"), T0 + 1)
        with pytest.raises(LedgerUnreadableError):
            await first.read(POLICY, T0)
        assert place.written() == before

    place.do(work)


def test_a_deleted_ledger_is_written_again_and_nothing_spent_is_forgotten(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        spent = settle(running("a"), T0 + 50)
        await first.keep(POLICY, spent, T0 + 50)
        place.delete()
        ended = close_worker(spent, "a", T0 + 60)
        with pytest.raises(KubeError):
            await first.keep(POLICY, ended, T0 + 61)
        assert await first.read(POLICY, T0) == spent
        await first.keep(POLICY, ended, T0 + 62)
        assert place.ledger() == ended

    place.do(work)


def test_a_ledger_that_is_refused_is_kept_in_mind_and_written_as_soon_as_it_is_taken(
    place: Place, cluster_client: Client, namespace: str
) -> None:
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    used = {"metadata": {"name": "full"}, "spec": {"hard": {"count/configmaps": "0"}}}

    async def work(book: Callable[[], SpendBook]) -> None:
        first = book()
        await first.read(POLICY, T0)
        cluster_client.create(quotas, used)
        cluster_client.wait(f"{quotas}/full", lambda quota: "hard" in (quota.get("status") or {}))
        with pytest.raises(LedgerUnwritableError, match="exceeded quota"):
            await first.keep(POLICY, running("a"), T0)
        ended = close_worker(running("a"), "a", T0 + 5)
        with pytest.raises(LedgerUnwritableError):
            await first.keep(POLICY, ended, T0 + 6)
        assert await first.read(POLICY, T0 + 7) == ended
        cluster_client.delete(f"{quotas}/full")
        cluster_client.wait(f"{quotas}/full", lambda quota: not quota)
        await first.keep(POLICY, ended, T0 + 8)
        assert place.ledger() == ended

    place.do(work)


def test_ledgers_of_namespaces_that_are_gone_are_removed_and_others_stay(
    shared_cluster: LocalCluster, cluster_client: Client, namespace: str
) -> None:
    alive, gone = Key("ScalingPolicy", namespace, "a.b"), Key("ScalingPolicy", "never-was", "default")

    async def work() -> list[Key]:
        kube = await Kube.connect(shared_cluster.kubeconfig)
        book = SpendBook(kube, namespace)
        for policy in (alive, gone):
            await book.read(policy, T0)
            await book.keep(policy, running("a"), T0)
        try:
            assert set(await book.all()) == {alive, gone}
            await sweep(kube, book, used=())
            return await book.all()
        finally:
            await kube.close()

    assert asyncio.run(work()) == [alive]


def test_a_policy_of_another_namespace_has_a_ledger_of_its_own(place: Place) -> None:
    async def work(book: Callable[[], SpendBook]) -> None:
        first, other = book(), Key("ScalingPolicy", "other", "default")
        await first.read(POLICY, T0)
        await first.keep(POLICY, running("a"), T0)
        assert await first.read(other, T0) == SpendLedger()

    place.do(work)
