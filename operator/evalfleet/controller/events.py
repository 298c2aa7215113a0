"""Kubernetes Events: one per change of a condition; the same message again, with whatever numbers, is counted."""

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from evalfleet import limits
from evalfleet.kube.client import CONFLICT, NOT_FOUND, KubeError

log = logging.getLogger(__name__)

NUMBERS = re.compile(r"[0-9]+")
"""Left aside when messages are compared: what comes and goes with other times and counts is one series, not a flood."""


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

    def __init__(self, api: EventApi, component: str, instance: str, now: Callable[[], datetime]) -> None:
        self._api = api
        self._component = component
        self._instance = instance
        self._now = now
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def post(self, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
        """Post an Event of type Normal or Warning about an object."""
        metadata = about["metadata"]
        text = f"{metadata['uid']}|{kind}|{reason}|{NUMBERS.sub('', message)}"
        head = metadata["name"][: limits.EVENT_NAME].rstrip("-.")  # what a cut leaves at the end must not end a label
        name = f"{head}.{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
        path = f"/api/v1/namespaces/{metadata['namespace']}/events"
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        event = self._event(about, name, (kind, reason, message), now)
        try:
            self._remember(name, await self._posted(path, event, self._counts.get(name, 0)))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.debug("event %s: %s", name, error)
        except RuntimeError as error:  # refused: somebody has to change a role or a quota
            log.warning("event %s: %s", name, error)

    async def _posted(self, path: str, event: dict[str, Any], count: int) -> int:
        """Create or count up an Event, whatever an earlier process or the API server's clean-up did; its count."""
        seen_again = {name: event[name] for name in ("lastTimestamp", "message")}
        at = f"{path}/{event['metadata']['name']}"
        if count:
            try:
                await self._api.patch(at, {**seen_again, "count": count + 1})
            except KubeError as error:
                if error.status != NOT_FOUND:  # Events live an hour
                    raise
            else:
                return count + 1
        try:
            await self._api.create(path, event)
        except KubeError as error:
            if error.status != CONFLICT:  # it was posted before this process began
                raise
            known = await self._api.patch(at, seen_again)
            count = int(known.get("count") or 0) + 1
            await self._api.patch(at, {"count": count})
            return count
        return 1

    def _remember(self, name: str, count: int) -> None:
        self._counts[name] = count
        self._counts.move_to_end(name)
        while len(self._counts) > limits.EVENTS_COUNTED:
            self._counts.popitem(last=False)

    def _event(self, about: dict[str, Any], name: str, what: tuple[str, str, str], now: str) -> dict[str, Any]:
        kind, reason, message = what
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
            "message": message[: limits.EVENT_MESSAGE],
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
