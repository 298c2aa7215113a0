"""Pulling progress from worker pods: small, short, never trusted, never following a redirect."""

import asyncio
from collections.abc import Iterable

import aiohttp

from evalfleet.manifests import PROGRESS_PORT
from evalfleet_worker.protocol import Progress, loads

LIMIT_BYTES = 64 * 1024
TIMEOUT_SECONDS = 1.0
AT_ONCE = 64


async def pull(session: aiohttp.ClientSession, pods: Iterable[tuple[str, str]]) -> dict[str, Progress]:
    """Progress by pod uid for the (uid, address) pairs that answer within a second."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(uid: str, address: str) -> tuple[str, Progress | None]:
        async with gate:
            return uid, await _ask(session, address)

    answers = await asyncio.gather(*(one(uid, address) for uid, address in pods))
    return {uid: progress for uid, progress in answers if progress is not None}


async def _ask(session: aiohttp.ClientSession, address: str) -> Progress | None:
    url = f"http://{address}:{PROGRESS_PORT}/progress"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    try:
        async with session.get(url, timeout=timeout, allow_redirects=False) as response:
            if response.status != 200:
                return None
            return loads(Progress, await response.content.read(LIMIT_BYTES))
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
        return None
