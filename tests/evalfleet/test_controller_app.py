"""The composition root: what goes on beside the first listing, and how a process ends."""

import asyncio
import logging
from typing import Any

import pytest
from aiohttp import web
from small_api_server import SmallServer, error, small_server

from evalfleet.controller.app import Operator
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key

LEASES = "/apis/coordination.k8s.io/v1/namespaces/evalfleet-system/leases"
SETTINGS = Settings(http_address="127.0.0.1:0")


def renewals(server: SmallServer) -> int:
    return sum(method == "PUT" and "leases" in path for method, path in server.calls)


async def ended(operator: Operator, run: asyncio.Task[int]) -> int:
    operator.stop()
    return await asyncio.wait_for(run, 60)


async def test_the_lease_is_renewed_while_the_first_listing_takes_its_time() -> None:
    async with small_server() as (server, kube):
        server.slow = ("/apis/evalfleet.io/v1alpha1/scalingpolicies", asyncio.Event())
        operator = Operator(kube, SETTINGS)
        run = asyncio.create_task(operator.run())
        while renewals(server) < 1:
            await asyncio.sleep(0.05)
            assert not run.done()
        assert operator.vitals().listed_seconds is None
        assert await ended(operator, run) == 0  # a stop does not wait for the listing either
        assert server.objects[f"{LEASES}/evalfleet-operator"]["spec"]["holderIdentity"] == ""


async def test_the_cause_of_an_end_is_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalfleet.limits.FIRST_SYNC_SECONDS", 0.0)

    def refuse(method: str, path: str, _: Any) -> web.Response | None:
        return error(403, "scalingpolicies is forbidden") if "scalingpolicies" in path else None

    async with small_server() as (server, kube):
        server.refuse = refuse
        with caplog.at_level(logging.ERROR):
            assert await asyncio.wait_for(Operator(kube, SETTINGS).run(), 60) == 1
    assert "scalingpolicies is forbidden" in caplog.text


async def test_no_pass_begins_once_the_lease_may_be_anothers() -> None:
    async with small_server() as (server, kube):
        operator = Operator(Kube(kube._client), SETTINGS)
        with pytest.raises(RuntimeError, match="Lease"):
            await operator.controller.reconcile(Key("EvaluationJob", "ns", "job"))
        assert server.calls == []
