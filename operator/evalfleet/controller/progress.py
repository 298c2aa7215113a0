"""Pulling progress from worker pods: small, short, never trusted, never following a redirect."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp

from evalfleet import limits
from evalfleet.controller.controller import Controller
from evalfleet.controller.objects import role_of, uid_of
from evalfleet.controller.turns import Turns
from evalfleet.manifests.names import PROGRESS_PORT
from evalfleet_worker.protocol import Progress, loads


async def pull_for_ever(controller: Controller, period_seconds: float) -> None:
    """Ask all running workers of all runs, again and again."""
    turns = Turns()
    async with session() as workers:
        while True:
            running = {uid_of(pod): pod for pod in controller.cache.of_kind("Pod") if _is_running_worker(pod)}
            reachable = {uid: str(pod["metadata"]["namespace"]) for uid, pod in running.items() if _address(pod)}
            asked = turns.next(reachable, time.monotonic())
            answers = await pull(workers, [(uid, _address(running[uid])) for uid in asked])
            turns.took_place(asked, answers, time.monotonic())
            controller.router.progress_arrived(running, answers, controller.clock.now())
            await asyncio.sleep(period_seconds)


def _is_running_worker(pod: Mapping[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running" and role_of(pod) == "work"


def _address(pod: Mapping[str, Any]) -> str:
    return str(pod["status"].get("podIP") or "")


def session() -> aiohttp.ClientSession:
    """A session for workers: nothing that they send is unpacked or kept."""
    return aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())


async def pull(session: aiohttp.ClientSession, pods: Iterable[tuple[str, str]]) -> dict[str, Progress]:
    """Progress by pod uid for the (uid, address) pairs that answer within a second."""
    turn = asyncio.Semaphore(limits.PROGRESS_AT_ONCE)

    async def one(uid: str, address: str) -> tuple[str, Progress | None]:
        async with turn:
            return uid, await _ask(session, address)

    answers = await asyncio.gather(*(one(uid, address) for uid, address in pods))
    return {uid: progress for uid, progress in answers if progress is not None}


async def _ask(session: aiohttp.ClientSession, address: str) -> Progress | None:
    host = f"[{address}]" if ":" in address else address
    url = f"http://{host}:{PROGRESS_PORT}/progress"
    timeout = aiohttp.ClientTimeout(total=limits.PROGRESS_TIMEOUT_SECONDS)
    try:
        async with session.get(url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                return None
            return loads(Progress, await _body(response.content))
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return None


async def _body(stream: aiohttp.StreamReader) -> bytes:
    """All of a body, which may come in pieces; ValueError beyond the limit."""
    body = b""
    while piece := await stream.read(limits.PROGRESS_BYTES):
        body += piece
        if len(body) > limits.PROGRESS_BYTES:
            raise ValueError("too long")
    return body
