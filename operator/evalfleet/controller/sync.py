"""Everything is listed at the start and now and then: what a watch lost is found, what was deleted meanwhile goes."""

import asyncio
import logging
import time

from evalfleet import limits
from evalfleet.controller.controller import Controller
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError
from evalfleet.kube.resources import CHILDREN, WATCHED, Key, api_version, collection_path, key_of

log = logging.getLogger(__name__)

MANAGED_SELECTOR = "app.kubernetes.io/managed-by=evalfleet"


class Sync:
    """Lists all kinds in all namespaces served; `listed_at` is when it last succeeded, by the monotonic clock."""

    def __init__(self, kube: Kube, controller: Controller, namespaces: tuple[str, ...]) -> None:
        self._kube = kube
        self._controller = controller
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self.listed_at: float | None = None

    async def first(self) -> None:
        """List until it succeeds: a kind that was created just now answers 429 for a moment.

        Raises:
            KubeError: it did not for a minute.
        """
        loop = asyncio.get_running_loop()
        given_up = loop.time() + limits.FIRST_SYNC_SECONDS
        while True:
            try:
                return await self.once()
            except (*UNREACHABLE, KubeError) as error:
                if loop.time() > given_up:
                    raise
                log.warning("first listing: %s", error)
                wanted = error.retry_after_seconds if isinstance(error, KubeError) else 0.0
                await asyncio.sleep(max(limits.FIRST_SYNC_PAUSE_SECONDS, wanted))

    async def for_ever(self, period_seconds: float) -> None:
        """List again and again; a failure is logged, and health tells when there are too many."""
        while True:
            await asyncio.sleep(period_seconds)
            try:
                await self.once()
            except (*UNREACHABLE, KubeError) as error:
                log.warning("%s", str(error) or type(error).__name__)

    async def once(self) -> None:
        """List everything."""
        for kind in WATCHED:
            for namespace in self._namespaces:
                await self._list(kind, namespace)
        self._controller.all_listed()
        self.listed_at = time.monotonic()

    async def _list(self, kind: str, namespace: str | None) -> None:
        selector = {"labelSelector": MANAGED_SELECTOR} if kind in CHILDREN else {}
        listed: set[Key] = set()
        version = 0
        async for page in self._kube.pages(collection_path(kind, namespace), **selector):
            for item in page.objects:
                body = {**item, "kind": kind, "apiVersion": api_version(kind)}
                listed.add(key_of(kind, body))
                self._controller.router.listed(kind, body)
            version = page.version
        self._controller.router.listing_ended(kind, listed, namespace, version)
