"""Everything is listed at the start and now and then: what a watch lost is found, what was deleted meanwhile goes."""

import asyncio
import logging
import time

from evalfleet import limits
from evalfleet.controller.controller import Controller
from evalfleet.kube.client import FORBIDDEN, UNREACHABLE, Kube, KubeError
from evalfleet.kube.resources import CHILDREN, WATCHED, Key, api_version, collection_path, key_of

log = logging.getLogger(__name__)

MANAGED_SELECTOR = "app.kubernetes.io/managed-by=evalfleet"


class ServedAnewError(RuntimeError):
    """Another set of namespaces may be served than the watches were begun for."""


class Sync:
    """Lists all kinds in all namespaces served.

    Attributes:
        listed_at: when it last succeeded, by the monotonic clock.
        forbidden: what the API server said of namespaces that it does not let us serve; the others are served.
    """

    def __init__(self, kube: Kube, controller: Controller, namespaces: tuple[str, ...]) -> None:
        self._kube = kube
        self._controller = controller
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self.listed_at: float | None = None
        self.forbidden: dict[str, str] = {}

    @property
    def served(self) -> tuple[str, ...]:
        """The namespaces to watch; empty = all."""
        return tuple(name for name in self._namespaces if name is not None and name not in self.forbidden)

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
        """List again and again; a failure is logged, and health tells when there are too many.

        Raises:
            ServedAnewError: a namespace was permitted or forbidden meanwhile.
        """
        served = self.served
        while True:
            await asyncio.sleep(min(period_seconds, limits.FORBIDDEN_SECONDS) if self.forbidden else period_seconds)
            try:
                await self.once()
                if self.served != served:
                    raise ServedAnewError(f"namespaces served were {served}, now {self.served}")
            except (*UNREACHABLE, KubeError) as error:
                log.warning("%s", str(error) or type(error).__name__)

    async def once(self) -> None:
        """List everything; a namespace that is forbidden harms itself alone."""
        refused: dict[str, KubeError] = {}
        for namespace in self._namespaces:
            try:
                for kind in WATCHED:
                    await self._list(kind, namespace)
            except KubeError as error:
                if error.status != FORBIDDEN or namespace is None:
                    raise
                refused[namespace] = error
        if len(refused) == len(self._namespaces):
            raise next(iter(refused.values()))
        self._note(refused)
        self._controller.all_listed()
        self.listed_at = time.monotonic()

    def _note(self, refused: dict[str, KubeError]) -> None:
        """Serve the others; what was known of a forbidden namespace is not looked at any more."""
        for namespace in refused.keys() - self.forbidden.keys():
            log.warning("namespace %s is not served until this is permitted: %s", namespace, refused[namespace])
        self.forbidden = {namespace: str(error) for namespace, error in refused.items()}
        self._controller.serve_all_but(frozenset(refused))

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
