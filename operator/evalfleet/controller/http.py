"""Metrics, liveness and readiness of the operator on one small HTTP server."""

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4


async def serve(
    address: str, registry: CollectorRegistry, why_not_alive: Callable[[], str], why_not_ready: Callable[[], str]
) -> web.AppRunner:
    """Serve /metrics, /healthz and /readyz until `cleanup()` of the returned runner.

    The address is HOST:PORT, or :PORT for every address of the pod.
    The two functions say what is wrong, and nothing when all is well.
    """

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def health(_: web.Request) -> web.Response:
        return _admission(why_not_alive())

    async def readiness(_: web.Request) -> web.Response:
        return _admission(why_not_ready())

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", health), web.get("/readyz", readiness)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    await web.TCPSite(runner, host.strip("[]") or None, int(port)).start()
    return runner


def _admission(problem: str) -> web.Response:
    return web.Response(text=problem or "ok", status=503 if problem else 200)
