"""Liveness and readiness: judged in a table, and by the HTTP answers of a process that cannot reach or is held up."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from operator_bench import OperatorProcess, free_port
from operator_states import manifest

from evalfleet.controller.app import Operator
from evalfleet.controller.health import Vitals, why_not_alive, why_not_ready
from evalfleet.controller.http import serve
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet.local.cluster.connection import Answer

LEADER = Vitals(
    leading=True,
    watching=True,
    lease_seconds=1.0,
    listed_seconds=10.0,
    resync_seconds=60.0,
    busy_seconds=0.0,
    stuck_seconds=300.0,
)
STANDBY = replace(LEADER, leading=False, watching=False, listed_seconds=None)


@pytest.mark.parametrize(
    ("vitals", "words"),
    [
        (LEADER, ""),
        (replace(LEADER, lease_seconds=None), ""),
        (replace(LEADER, listed_seconds=None), "listed for the first time"),
        (replace(LEADER, watching=False), "watches do not run"),
        (replace(LEADER, listed_seconds=181.0), "no listing for 181 s"),
        (STANDBY, ""),
        (replace(STANDBY, lease_seconds=None), "not answered about the Lease yet"),
        (replace(STANDBY, lease_seconds=16.0), "for 16 s"),
    ],
)
def test_who_is_ready(vitals: Vitals, words: str) -> None:
    assert words in why_not_ready(vitals)
    assert bool(words) == bool(why_not_ready(vitals))


def test_only_a_reconciliation_without_end_calls_for_a_restart() -> None:
    assert why_not_alive(replace(LEADER, busy_seconds=300.0)) == ""
    assert "301 s" in why_not_alive(replace(LEADER, busy_seconds=301.0))
    assert why_not_alive(replace(STANDBY, lease_seconds=None)) == ""


class Endless:
    """A connection to a server that takes every request and never answers."""

    def __init__(self, port: int) -> None:
        self.configuration = SimpleNamespace(host=f"http://127.0.0.1:{port}")
        self._session = aiohttp.ClientSession()

    async def call_api(self, method: str, url: str, **_: object) -> Answer:
        return Answer(await self._session.request(method, url))

    async def close(self) -> None:
        await self._session.close()


@pytest.fixture
async def silent_server() -> AsyncIterator[int]:
    port = free_port()
    over = asyncio.Event()

    async def swallow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    server = await asyncio.start_server(swallow, "127.0.0.1", port)
    yield port
    over.set()
    server.close()


async def test_a_reconciliation_that_never_ends_fails_the_liveness_probe(silent_server: int) -> None:
    connection, port = Endless(silent_server), free_port()
    settings = Settings(http_address=f"127.0.0.1:{port}", leader_election=False, stuck_seconds=0.5)
    operator = Operator(Kube(connection), settings)
    stamps = {"uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
    body = manifest()
    operator.controller.cache.put("EvaluationJob", {**body, "metadata": {**body["metadata"], **stamps}})
    http = await serve(
        settings.http_address, operator.telemetry.registry, lambda: why_not_alive(operator.vitals()), lambda: ""
    )
    assert await answer(port, "/healthz") == (200, "ok")
    work = asyncio.create_task(operator.controller.work())
    operator.controller.queue.add(Key("EvaluationJob", "ns", "job"))
    while (await answer(port, "/healthz"))[0] == 200:
        await asyncio.sleep(0.05)
    assert "stuck" in (await answer(port, "/healthz"))[1]
    work.cancel()
    await http.cleanup()
    await connection.close()


async def answer(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as got:
        return got.status, await got.text()


def test_a_process_that_cannot_reach_the_api_server_is_alive_and_not_ready(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        f"""
apiVersion: v1
kind: Config
clusters: [{{name: a, cluster: {{server: "http://127.0.0.1:{free_port()}"}}}}]
users: [{{name: a, user: {{}}}}]
contexts: [{{name: a, context: {{cluster: a, user: a}}}}]
current-context: a
"""
    )
    operator = OperatorProcess({"KUBECONFIG": str(kubeconfig)}, tmp_path / "log")
    operator.start()
    try:
        operator.wait_for("/healthz", 200)
        assert operator.answers("/readyz") == 503
    finally:
        operator.kill()
