"""The API server as plain JSON: the calls that a node agent needs, over the official asynchronous client.

Objects stay dictionaries on purpose: a kubelet passes most of a pod through untouched, and the generated models cost
a multiple of the time and drop fields that they do not know.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from evalfleet.kube.serverclock import ServerClock

Object = dict[str, Any]

_JSON = "application/json"
_METADATA = "application/json;as={};g=meta.k8s.io;v=v1"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

log = logging.getLogger(__name__)

FORBIDDEN, NOT_FOUND, CONFLICT, TOO_MANY_REQUESTS = 403, 404, 409, 429

WRITES = frozenset({"POST", "PUT", "PATCH"})
_TIMEOUT_SECONDS = 30
_RECONNECT_SECONDS = (0.2, 3.0)
"""First and longest pause before a lost watch is begun again; it doubles while watches end at once."""
_STEADY_SECONDS = 10.0
_WATCH_SECONDS = 240
_POLL_SECONDS = 0.05
_PAGE_OBJECTS = 250
"""As many objects of a kind are in memory twice, as text and parsed."""


class KubeError(RuntimeError):
    """The API server refused a call; `retry_after_seconds` is when it wants to be asked again, 0 = it does not say."""

    def __init__(self, status: int, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True)
class Listed:
    """A listing, or a page of one, as of a resource version; without pages: what is not in it does not exist."""

    objects: list[Object]
    version: int


@dataclass(frozen=True)
class Changed:
    """One change; `gone` when the object was deleted."""

    object: Object
    gone: bool


class KubeconfigError(RuntimeError):
    """There is no usable kubeconfig, or none with the context asked for."""


UNREACHABLE = (aiohttp.ClientError, OSError, TimeoutError)
"""What a call raises while the API server is down."""


class Connection(Protocol):
    """What is used of the official `ApiClient`, whose import (1 to 3 s of CPU) is left to those who need it."""

    configuration: Any

    async def call_api(
        self, method: str, url: str, header_params: Mapping[str, str], body: Any = None, _request_timeout: float = 0
    ) -> Any:
        """Send one request."""

    async def close(self) -> None:
        """Close all connections."""


class Kube:
    """One connection pool to one API server, whose clock it learns from the answers."""

    def __init__(self, client: Connection, field_manager: str = "") -> None:
        self._client = client
        self._writes = {"fieldManager": field_manager} if field_manager else {}
        self.clock = ServerClock()

    @classmethod
    async def connect(cls, kubeconfig: Path) -> "Kube":
        """Connect as the user of `kubeconfig`."""
        from kubernetes.aio.config import new_client_from_config

        return cls(await new_client_from_config(config_file=str(kubeconfig)))

    @classmethod
    async def connect_default(cls, context: str | None = None, field_manager: str = "") -> "Kube":
        """Connect as the pod's service account, else as the user of KUBECONFIG or ~/.kube/config.

        Args:
            context: of the kubeconfig; None = the current one.
            field_manager: who writes, as `metadata.managedFields` tells; empty = as the API server calls it.

        Raises:
            KubeconfigError: no kubeconfig, or none with such a context.
        """
        from kubernetes.aio.client.api_client import ApiClient
        from kubernetes.aio.client.configuration import Configuration
        from kubernetes.aio.config import ConfigException, load_incluster_config, new_client_from_config

        try:
            configuration = Configuration()
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            try:
                return cls(await new_client_from_config(context=context), field_manager)
            except ConfigException as error:
                raise KubeconfigError(str(error)) from error
        return cls(ApiClient(configuration), field_manager)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def get(self, path: str, **query: str) -> Object:
        """Read one object or list."""
        return await self._call("GET", path, query=query)

    async def get_metadata(self, path: str, **query: str) -> Object:
        """Read a list of objects without spec and status."""
        return await self._call("GET", path, query=query, accept=_METADATA.format("PartialObjectMetadataList"))

    async def pages(self, path: str, **query: str) -> AsyncIterator[Listed]:
        """All objects of a path as of one moment, a page at a time.

        Raises:
            KubeError: with status 410 when reading them took longer than the API server remembers; begin again.
        """
        token = ""
        while True:
            more = {"continue": token} if token else {}
            listing = await self.get(path, limit=str(_PAGE_OBJECTS), **query, **more)
            metadata = listing["metadata"]
            yield Listed(listing.get("items") or [], int(metadata["resourceVersion"]))
            token = metadata.get("continue") or ""
            if not token:
                return

    async def create(self, path: str, body: Object) -> Object:
        """Create an object."""
        return await self._call("POST", path, body=body)

    async def patch(self, path: str, body: object, content_type: str = MERGE) -> Object:
        """Patch an object."""
        return await self._call("PATCH", path, body=body, content_type=content_type)

    async def replace(self, path: str, body: Object) -> Object:
        """Replace an object at its resourceVersion."""
        return await self._call("PUT", path, body=body)

    async def delete(
        self, path: str, *, grace_seconds: int | None = None, uid: str | None = None, propagation: str | None = None
    ) -> None:
        """Delete an object; one that is gone already counts as success."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if propagation is not None:
            options["propagationPolicy"] = propagation
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        try:
            await self._call("DELETE", path, body=options)
        except KubeError as error:
            if error.status not in (NOT_FOUND, CONFLICT):
                raise

    async def watch(self, path: str, *, metadata_only: bool = False, **query: str) -> AsyncIterator[Listed | Changed]:
        """List, then follow changes, for ever; after every loss of the connection it lists again."""
        read = self.get_metadata if metadata_only else self.get
        pause, longest = _RECONNECT_SECONDS
        while True:
            begun = time.monotonic()
            try:
                listing = await read(path, **query)
                version = listing["metadata"]["resourceVersion"]
                yield Listed(listing.get("items") or [], int(version))
                async for change in self._follow(path, {**query, "resourceVersion": version}, metadata_only):
                    yield change
            except KubeError as error:
                log.warning("watch %s: %s", path, error)
            except (*UNREACHABLE, ValueError, HttpProcessingError) as error:  # also an event that is too long
                log.debug("watch %s: %s", path, error)
            if time.monotonic() - begun > _STEADY_SECONDS:
                pause = _RECONNECT_SECONDS[0]
            await _pause(pause)
            pause = min(2 * pause, longest)

    async def _follow(self, path: str, query: Mapping[str, str], metadata_only: bool) -> AsyncIterator[Changed]:
        parameters = {**query, "watch": "true", "timeoutSeconds": str(_WATCH_SECONDS)}
        accept = _METADATA.format("PartialObjectMetadata") if metadata_only else _JSON
        answer = await self._request("GET", path, parameters, timeout=_WATCH_SECONDS + 10, accept=accept)
        response = answer.response
        try:
            if response.status != 200:
                raise KubeError(response.status, "the watch is refused")
            while line := await response.content.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                if event["type"] != "BOOKMARK":
                    yield Changed(event["object"], gone=event["type"] == "DELETED")
        finally:
            response.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        accept: str = _JSON,
    ) -> Object:
        sent = self.clock.started()
        parameters = {**(query or {}), **(self._writes if method in WRITES else {})}
        response = await self._request(method, path, parameters, body, content_type, accept=accept)
        self.clock.observe(response.response.headers.get("Date"), sent)
        data = await response.read()
        try:
            answer = json.loads(data)
        except ValueError:  # /readyz and the like answer in plain text
            answer = {"message": data.decode(errors="replace")}
        if response.status >= 400:
            raise KubeError(response.status, str(answer.get("message", "")), _retry_after(response.response.headers))
        return answer if isinstance(answer, dict) else {"items": answer}

    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object = None,
        content_type: str = _JSON,
        timeout: int = _TIMEOUT_SECONDS,
        accept: str = _JSON,
    ) -> Any:
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Type": content_type, "Accept": accept, **await self._credentials()}
        return await self._client.call_api(method, url, header_params=headers, body=body, _request_timeout=timeout)

    async def _credentials(self) -> dict[str, str]:
        """The bearer token, if the user has one: the client reads a rotated one anew, and its plain call sends none."""
        token = getattr(self._client.configuration, "get_api_key_with_prefix", None)
        value = await token("BearerToken", alias="authorization") if token is not None else None
        return {"Authorization": value} if value else {}


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; Kubernetes sends no dates here."""
    text = headers.get("Retry-After") or ""
    return float(text) if text.isascii() and text.isdigit() else 0.0


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def context_namespace(context: str | None = None) -> str:
    """The namespace of a context of the kubeconfig, of the current one by default; `default` where none is named."""
    from kubernetes.aio.config import ConfigException, list_kube_config_contexts

    try:
        contexts, active = list_kube_config_contexts()
    except ConfigException:  # inside a pod there is no kubeconfig
        return "default"
    chosen = next((entry for entry in contexts if entry["name"] == context), active)
    return str(chosen["context"].get("namespace") or "default")


def pods_path(namespace: str, name: str, subresource: str = "") -> str:
    """Path of a pod or of one of its subresources."""
    return f"/api/v1/namespaces/{namespace}/pods/{name}" + (f"/{subresource}" if subresource else "")


async def wait_until_answered(kube: Kube, path: str) -> None:
    """Poll until the API server answers `path` with success."""
    while True:
        try:
            await kube.get(path)
        except (*UNREACHABLE, KubeError):
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return
