"""A connection to the cluster's own API server that loads nothing but aiohttp.

The official client imports every generated model: 1 to 3 s of CPU and 33 MB in the process whose start everybody waits
for, on cores that the API server needs at that moment. Host nodes speak plain JSON and use none of them.
"""

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import aiohttp

from evalfleet.local.cluster.pki import KeyPair, Pki

_CONNECTIONS = 100
# One watch event may be a whole object of 1.5 MiB; aiohttp reads lines of up to twice this.
_LINE_BYTES = 2**21


@dataclass(frozen=True)
class Answer:
    """What `Kube` reads of a response."""

    response: aiohttp.ClientResponse

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.response.status

    async def read(self) -> bytes:
        """The whole body."""
        return await self.response.read()


class DirectConnection:
    """The part of the official `ApiClient` that `Kube` uses, with one client certificate and no proxy."""

    def __init__(self, server: str, pki: Pki, user: KeyPair) -> None:
        self.configuration = SimpleNamespace(host=server)
        context = ssl.create_default_context(cafile=str(pki.ca.certificate))
        context.load_cert_chain(user.certificate, user.key)
        connector = aiohttp.TCPConnector(ssl=context, limit=_CONNECTIONS)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=_LINE_BYTES)

    async def call_api(
        self, method: str, url: str, header_params: Mapping[str, str], body: Any = None, _request_timeout: float = 30.0
    ) -> Answer:
        """Send one request; raises aiohttp's errors."""
        data = None if body is None else json.dumps(body)
        timeout = aiohttp.ClientTimeout(total=_request_timeout)
        return Answer(await self._session.request(method, url, headers=header_params, data=data, timeout=timeout))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()
