"""Progress of workers over real HTTP: whatever they answer, the operator's loop and memory do not suffer."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from evalfleet import limits
from evalfleet.controller import progress
from evalfleet.controller.progress import pull, session
from evalfleet_worker.protocol import Progress, dumps

ANSWER = Progress("run", "w", "Scoring", 10, 5, 100, 50, 1.5, 20.0)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def worker(handler: Handler, host: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_get("/progress", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host, 0).start()
    monkeypatch.setattr(progress, "PROGRESS_PORT", runner.addresses[0][1])
    monkeypatch.setattr(limits, "PROGRESS_TIMEOUT_SECONDS", 30.0)
    yield
    await runner.cleanup()


async def asked(handler: Handler, monkeypatch: pytest.MonkeyPatch, host: str = "127.0.0.1") -> Progress | None:
    async with worker(handler, host, monkeypatch), session() as ours:
        return (await pull(ours, [("uid", host)])).get("uid")


async def whole(_: web.Request) -> web.StreamResponse:
    return web.Response(text=dumps(ANSWER))


async def in_pieces(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    text = dumps(ANSWER).encode()
    for start in range(0, len(text), 50):
        await response.write(text[start : start + 50])
        await asyncio.sleep(0.01)  # the next piece travels alone
    return response


async def without_end(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(2 * limits.PROGRESS_BYTES // 1024):
        await response.write(b" " * 1024)
    await response.write(dumps(ANSWER).encode())
    return response


async def inflated(_: web.Request) -> web.StreamResponse:
    return web.Response(body=gzip.compress(dumps(ANSWER).encode()), headers={"Content-Encoding": "gzip"})


async def elsewhere(_: web.Request) -> web.StreamResponse:
    raise web.HTTPFound("/progress")


@pytest.mark.parametrize("handler", [whole, in_pieces])
async def test_an_answer_is_read_to_its_end(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked(handler, monkeypatch) == ANSWER


async def test_a_worker_with_an_ipv6_address_is_asked_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked(whole, monkeypatch, "::1") == ANSWER


@pytest.mark.parametrize("handler", [without_end, inflated, elsewhere])
async def test_more_than_was_asked_for_is_no_answer(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await asked(handler, monkeypatch) is None
