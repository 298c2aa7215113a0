"""A small API server over HTTP with versions, conflicts, pages and merge patches, for tests of the operator's calls."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp import web

from evalfleet.kube.client import Kube
from evalfleet.kube.mergepatch import merge_patched
from evalfleet.local.cluster.connection import Answer

Object = dict[str, Any]
Refuse = Callable[[str, str, Object], web.Response | None]
"""From method, path and body to an answer in place of the server's own, or None."""


@dataclass
class SmallServer:
    """Objects by path, and every request that came.

    Attributes:
        objects: what is stored.
        calls: method and path with query, in their order.
        headers: of each call.
        refuse: answers in place of the server's own.
        events: what every watch is told.
        slow: a path that is not answered before its event is set.
        over: set when the server ends.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    refuse: Refuse = lambda *_: None
    events: list[Object] = field(default_factory=list)
    slow: tuple[str, asyncio.Event] = field(default_factory=lambda: ("", asyncio.Event()))
    over: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _versions: Any = field(default_factory=lambda: itertools.count(1))

    def put(self, folder: str, body: Object) -> Object:
        """Store an object as the server does: with uid, version and times."""
        version = next(self._versions)
        metadata = {"uid": f"uid-{version}", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
        stored = {**body, "metadata": {**metadata, **body["metadata"], "resourceVersion": str(version)}}
        self.objects[f"{folder}/{body['metadata']['name']}"] = stored
        return stored

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.calls.append((request.method, request.path_qs))
        self.headers.append(dict(request.headers))
        text = await request.text()
        body = json.loads(text) if text else {}
        if request.path == self.slow[0]:
            await asyncio.wait(
                {asyncio.create_task(event.wait()) for event in (self.slow[1], self.over)},
                return_when="FIRST_COMPLETED",
            )
        refused = self.refuse(request.method, request.path_qs, body)
        if refused is not None:
            return refused
        if "watch" in request.query:
            return await self._watch(request)
        handle = {"GET": self._get, "POST": self._create, "PATCH": self._patch, "PUT": self._patch}
        return handle.get(request.method, self._delete)(request, body)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        """A stream of `events`, held open until the server ends."""
        stream = web.StreamResponse()
        await stream.prepare(request)
        for event in self.events:
            await stream.write(json.dumps(event).encode() + b"\n")
        await self.over.wait()
        return stream

    def _get(self, request: web.Request, _: Object) -> web.Response:
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        inside = [value for path, value in sorted(self.objects.items()) if path.rpartition("/")[0] == request.path]
        if not inside and request.path.count("/") > 5:
            return error(404, "not found")
        start, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 0)
        end = start + limit if limit else len(inside)
        metadata = {"resourceVersion": "1000000", "continue": str(end) if end < len(inside) else ""}
        return web.json_response({"metadata": metadata, "items": inside[start:end]})

    def _create(self, request: web.Request, body: Object) -> web.Response:
        if f"{request.path}/{body['metadata']['name']}" in self.objects:
            return error(409, "already exists")
        return web.json_response(self.put(request.path, body), status=201)

    def _patch(self, request: web.Request, body: Object) -> web.Response:
        path = request.path.removesuffix("/status")
        if path not in self.objects:
            return error(404, "not found")
        expected = (body.get("metadata") or {}).get("resourceVersion")
        if expected not in (None, self.objects[path]["metadata"]["resourceVersion"]):
            return error(409, "the object has been modified")
        return web.json_response(self.put(path.rpartition("/")[0], merge_patched(self.objects[path], body)))

    def _delete(self, request: web.Request, _: Object) -> web.Response:
        found = self.objects.pop(request.path, None)
        return web.json_response({}) if found is not None else error(404, "not found")


def error(status: int, message: str, **headers: str) -> web.Response:
    """A refusal as the API server words it."""
    return web.json_response({"kind": "Status", "message": message, "code": status}, status=status, headers=headers)


class _Plain:
    """A connection without credentials."""

    def __init__(self, port: int) -> None:
        self.configuration = SimpleNamespace(host=f"http://127.0.0.1:{port}")
        self._session = aiohttp.ClientSession()

    async def call_api(
        self, method: str, url: str, header_params: Mapping[str, str], body: Any = None, _request_timeout: float = 30.0
    ) -> Answer:
        timeout = aiohttp.ClientTimeout(total=_request_timeout)
        data = None if body is None else json.dumps(body)
        return Answer(await self._session.request(method, url, headers=header_params, data=data, timeout=timeout))

    async def close(self) -> None:
        await self._session.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def small_server() -> AsyncIterator[tuple[SmallServer, Kube]]:
    """A running server and a connection to it."""
    server = SmallServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    kube = Kube(_Plain(server.port))
    try:
        yield server, kube
    finally:
        server.over.set()
        await kube.close()
        await runner.cleanup()
