"""The part of a kubelet's API that `kubectl logs` needs: TLS, only for the API server's certificate."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from evalfleet.local.cluster.hostnode.fleet import HostNodeFleet
from evalfleet.local.cluster.pki import KUBELET_CLIENT_NAME, Pki

_POLL_SECONDS = 0.2
_CHUNK = 64 * 1024
_UNSUPPORTED = ("sinceTime", "sinceSeconds", "timestamps")


class LogServer:
    """Serves `/containerLogs/NAMESPACE/POD/CONTAINER` of all host nodes."""

    def __init__(self, fleet: HostNodeFleet, pki: Pki) -> None:
        self._fleet, self._pki = fleet, pki
        self._runner: web.AppRunner | None = None

    async def start(self, port: int) -> None:
        """Listen on 127.0.0.1."""
        application = web.Application()
        application.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        # A client that follows a log must not hold up the cluster's end.
        self._runner = web.AppRunner(application, shutdown_timeout=0.5, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=self._context()).start()

    async def stop(self) -> None:
        """Close all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self._pki.ca.certificate))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self._pki.kubelet_server.certificate, self._pki.kubelet_server.key)
        return context

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        if _common_name(request) != KUBELET_CLIENT_NAME:
            raise web.HTTPForbidden(text="only the API server may read logs")
        unsupported = [name for name in _UNSUPPORTED if request.query.get(name) not in (None, "false")]
        if unsupported:
            raise web.HTTPBadRequest(text=f"host nodes do not support {', '.join(unsupported)}")
        names = request.match_info
        runner = self._fleet.find_runner(names["namespace"], names["pod"])
        containers = [*runner.init_containers, *runner.containers] if runner else []
        container = next((item for item in containers if item.name == names["container"]), None)
        if runner is None or container is None:
            raise web.HTTPNotFound(text=f"container {names['container']} of pod {names['pod']} is not on a host node")
        restart = container.view.restarts - (1 if request.query.get("previous") == "true" else 0)
        path = container.log_file(restart)
        if not path.is_file():
            raise web.HTTPBadRequest(text=f"container {container.name} has not written a log yet")
        follow = request.query.get("follow") == "true"
        return await _send(request, path, lambda: follow and not runner.finished.is_set())


async def _send(request: web.Request, path: Path, more: Callable[[], bool]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    limit = int(request.query.get("limitBytes") or 1 << 62)
    with path.open("rb") as file:
        if "tailLines" in request.query:
            tail = b"".join(deque(file, maxlen=int(request.query["tailLines"])))[:limit]
            await response.write(tail)
            limit -= len(tail)
        while limit > 0:
            ending = not more()
            while chunk := file.read(min(_CHUNK, limit)):
                await response.write(chunk)
                limit -= len(chunk)
            if ending:
                break
            await asyncio.sleep(_POLL_SECONDS)
    return response


def _common_name(request: web.Request) -> str:
    assert request.transport is not None
    certificate = request.transport.get_extra_info("peercert") or {}
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    return names[0] if names else ""
