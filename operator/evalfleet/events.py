"""Kubernetes Events: one per change of a condition, repeated ones counted instead of created."""

import hashlib
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Protocol

import aiohttp

log = logging.getLogger(__name__)

REMEMBERED = 4096
MESSAGE_LIMIT = 1000


class EventApi(Protocol):
    """What the recorder needs of the API server."""

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        ...

    async def patch(self, path: str, body: object) -> dict[str, Any]:
        """Merge-patch an object."""
        ...


class EventRecorder:
    """Posts Events about objects; failing to post is logged and never stops a reconciliation."""

    def __init__(self, api: EventApi, component: str, instance: str) -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def post(self, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
        """Post an Event of type Normal or Warning about an object."""
        metadata = about["metadata"]
        text = f"{metadata['uid']}|{kind}|{reason}|{message}"
        name = f"{metadata['name'][:200]}.{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        count = self._counts.get(name, 0) + 1
        self._counts[name] = count
        self._counts.move_to_end(name)
        while len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            if count > 1:
                await self._api.patch(f"{path}/{name}", {"count": count, "lastTimestamp": now})
            else:
                await self._api.create(path, self._event(about, name, (kind, reason, message), now))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("event %s: %s", name, error)
        except RuntimeError as error:  # refused: somebody has to change a role or a quota
            log.warning("event %s: %s", name, error)

    def _event(self, about: dict[str, Any], name: str, words: tuple[str, str, str], now: str) -> dict[str, Any]:
        kind, reason, message = words
        metadata = about["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": about["apiVersion"],
                "kind": about["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:MESSAGE_LIMIT],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
