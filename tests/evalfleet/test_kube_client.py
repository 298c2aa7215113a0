"""Calls to an API server that has a bad moment, and watches that it does not keep open."""

import asyncio
from typing import Any

import pytest
from operator_states import manifest
from small_api_server import error, small_server

from evalfleet.controller.controller import Controller
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.nodes import LostNodes, follow_nodes
from evalfleet.controller.settings import Settings
from evalfleet.kube import client as adapter
from evalfleet.kube.client import KubeError, Listed
from evalfleet.kube.resources import Key
from evalfleet_scaling.fleet import decide_fleet

NODES = "/api/v1/nodes"


def node(name: str, **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": annotations}}


async def test_a_watch_that_is_refused_is_asked_for_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(adapter, "_pause", wait)
    async with small_server() as (server, kube):
        server.refuse = lambda _, path, __: error(403, "watch is forbidden") if "watch=" in path else None
        async for change in kube.watch(NODES):
            assert isinstance(change, Listed)
            if len(waited) == 8:
                break
    assert waited == sorted(waited)
    assert (waited[0], waited[-1]) == (0.2, 3.0)


async def test_an_event_longer_than_a_line_may_be_is_found_by_listing_again() -> None:
    async with small_server() as (server, kube):
        server.put(NODES, node("a"))
        server.events = [{"type": "MODIFIED", "object": node("a", large="x" * 2_000_000)}]
        seen = []
        async for change in kube.watch(NODES):
            seen.append(change)
            if len(seen) == 2:
                break
        assert all(isinstance(change, Listed) for change in seen)


async def test_of_nodes_only_the_metadata_is_asked_for() -> None:
    async with small_server() as (server, kube):
        server.put(NODES, node("a"))
        server.events = [{"type": "DELETED", "object": node("a")}]
        gone: asyncio.Future[set[str]] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(follow_nodes(kube, LostNodes(), gone.set_result))
        assert await asyncio.wait_for(gone, 30) == {"a"}
        task.cancel()
        accepted = [headers["Accept"] for headers in server.headers]
    assert accepted
    assert all("as=PartialObjectMetadata" in accept for accept in accepted), accepted


async def test_a_busy_api_server_says_when_to_come_back_and_nothing_more_is_sent_in_this_pass() -> None:
    async with small_server() as (server, kube):
        server.refuse = lambda *_: error(429, "too many requests", **{"Retry-After": "7"})
        with pytest.raises(KubeError) as refused:
            await kube.get(NODES)
        assert refused.value.retry_after_seconds == 7
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        key = Key("EvaluationJob", "ns", "job")
        controller.cache.put("EvaluationJob", server.put("/x", manifest()))
        controller.queue.add(key)
        worker = asyncio.create_task(controller.work())
        while not controller.queue._timers:
            await asyncio.sleep(0.01)
        delay = controller.queue._timers[key].when() - asyncio.get_running_loop().time()
        worker.cancel()
    assert 5 < delay <= 7
