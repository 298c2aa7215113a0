"""The composition root of the operator: lease, watches, workers of the queue, progress, health."""

import asyncio
import logging
import os
import signal
import socket
import time

import aiohttp

from evalfleet import __version__
from evalfleet.controller.controller import Controller, always
from evalfleet.controller.health import Vitals, why_not_alive, why_not_ready
from evalfleet.controller.http import serve
from evalfleet.controller.leader import Elector, LeaseTiming
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.nodes import follow_nodes
from evalfleet.controller.progress import pull, session
from evalfleet.controller.settings import Settings
from evalfleet.controller.watch import Watcher
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError
from evalfleet.kube.lease import KubeLease
from evalfleet.kube.resources import CHILDREN, WATCHED, Key, api_version, collection_path, key_of
from evalfleet.manifests.names import LABEL_ROLE
from evalfleet_scaling.fleet import decide_fleet

log = logging.getLogger(__name__)

QUEUE_WORKERS = 16
"""Passes wait for the API server most of their time."""
LEASE_NAME = "evalfleet-operator"
MANAGED_SELECTOR = "app.kubernetes.io/managed-by=evalfleet"
RELEASE_SECONDS = 3.0
"""Giving the lease back is a courtesy: an API server that hangs must not keep a process that has lost it."""
FIRST_SYNC_SECONDS = 60.0
"""How long the first listing is tried before a fresh process, or the standby, has a go at it."""


class Operator:
    """One operator process: a standby holds only the elector and HTTP; winning starts the watches."""

    def __init__(self, kube: Kube, settings: Settings) -> None:
        self.kube = kube
        self.settings = settings
        self.telemetry = Telemetry(__version__)
        self.leading = not settings.leader_election
        self._elector = self._candidate() if settings.leader_election else None
        holds = self._elector.holds if self._elector is not None else always
        self.controller = Controller(kube, settings, self.telemetry, decide_fleet, holds)
        self._watcher: Watcher | None = None
        self._listed_at: float | None = None
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End in good order."""
        self._stop.set()

    async def run(self) -> int:
        """Serve until stopped (0) or until leadership or the watches are lost (1: start anew)."""
        http = await serve(
            self.settings.http_address,
            self.telemetry.registry,
            lambda: why_not_alive(self.vitals()),
            lambda: why_not_ready(self.vitals()),
        )
        elector = self._elector
        try:
            if elector is not None and not await self._until_stopped(elector.acquire()):
                return 0
            self.leading = True
            self.telemetry.leader.set(1)
            return await self._lead(elector)
        finally:
            if elector is not None and self.leading:
                await _quietly(asyncio.wait_for(elector.release(), RELEASE_SECONDS))
            await http.cleanup()

    def vitals(self) -> Vitals:
        """What liveness and readiness are judged by."""
        now = time.monotonic()
        answered_at = self._elector.answered_at if self._elector is not None else None
        return Vitals(
            leading=self.leading,
            watching=self._watcher is not None and self._watcher.alive,
            lease_seconds=None if answered_at is None else now - answered_at,
            listed_seconds=None if self._listed_at is None else now - self._listed_at,
            resync_seconds=self.settings.resync_seconds,
            busy_seconds=self.controller.busy_seconds(),
            stuck_seconds=self.settings.stuck_seconds,
        )

    async def _lead(self, elector: Elector | None) -> int:
        """Serve while the Lease is held, from the first listing on: a large one takes longer than a Lease lasts."""
        ends = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._serve())]
        if elector is not None:
            ends.append(asyncio.create_task(elector.hold()))
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
        # Calls under way end before the Lease is given back: two leaders at once would write one status.
        _, serving, *_ = await asyncio.gather(*ends, return_exceptions=True)
        if ends[0] in done:
            return 0
        cause = serving if isinstance(serving, Exception) else None
        log.error("ending so that a fresh process starts: %s", cause or "the Lease is lost", exc_info=cause)
        return 1

    async def _serve(self) -> None:
        """List, watch and reconcile; none of it ever ends but by an error."""
        watcher = Watcher(self.settings.watch_namespaces, asyncio.get_running_loop(), self.controller.deliver)
        self._watcher = watcher
        await self._first_sync()
        watcher.start()
        lost = self.controller.memory.lost_nodes
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(QUEUE_WORKERS):
                    group.create_task(self.controller.work())
                group.create_task(self._resync_for_ever())
                group.create_task(self._pull_for_ever())
                group.create_task(follow_nodes(self.kube, lost, self._concern_nodes))
                group.create_task(self._watch_the_watcher(watcher))
        finally:
            await asyncio.to_thread(watcher.stop)

    async def _watch_the_watcher(self, watcher: Watcher) -> None:
        while watcher.alive:
            await asyncio.sleep(1.0)
        raise RuntimeError(f"the watches have ended: {watcher.error!r}")

    async def _resync_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.settings.resync_seconds)
            await _quietly(self._resync())

    async def _first_sync(self) -> None:
        """List until it succeeds: a kind that was created just now answers 429 for a moment."""
        loop = asyncio.get_running_loop()
        given_up = loop.time() + FIRST_SYNC_SECONDS
        while True:
            try:
                return await self._resync()
            except (*UNREACHABLE, KubeError) as error:
                if loop.time() > given_up:
                    raise
                log.warning("first listing: %s", error)
                await asyncio.sleep(max(0.5, error.retry_after_seconds if isinstance(error, KubeError) else 0.0))

    async def _resync(self) -> None:
        """List everything: what a watch lost is found, what was deleted meanwhile goes."""
        for kind in WATCHED:
            for namespace in self.settings.watch_namespaces or (None,):
                await self._list(kind, namespace)
        self.controller.observer.forget_others()
        self._listed_at = time.monotonic()

    async def _list(self, kind: str, namespace: str | None) -> None:
        selector = {"labelSelector": MANAGED_SELECTOR} if kind in CHILDREN else {}
        cache, concern = self.controller.cache, self.controller.concern
        listed: set[Key] = set()
        version = 0
        async for page in self.kube.pages(collection_path(kind, namespace), **selector):
            for item in page.objects:
                body = {**item, "kind": kind, "apiVersion": api_version(kind)}
                listed.add(key_of(kind, body))
                if cache.put(kind, body):
                    concern(kind, body)
            version = page.version
        for place in {key.namespace for key in cache.retain(kind, listed, namespace, version)}:
            self._concern_all(place)

    def _concern_all(self, namespace: str) -> None:
        """Something went unseen: everybody in its namespace looks again."""
        for job in self.controller.cache.of_kind("EvaluationJob", namespace):
            self.controller.concern("EvaluationJob", job)

    def _concern_nodes(self, lost: set[str]) -> None:
        """Whoever had a pod on a machine that vanished looks again."""
        for pod in self.controller.cache.of_kind("Pod"):
            if (pod.get("spec") or {}).get("nodeName") in lost:
                self.controller.concern("Pod", pod)

    async def _pull_for_ever(self) -> None:
        async with session() as workers:
            while True:
                await self._pull(workers)
                await asyncio.sleep(self.settings.progress_seconds)

    async def _pull(self, workers: aiohttp.ClientSession) -> None:
        running = {
            str(pod["metadata"]["uid"]): pod
            for pod in self.controller.cache.of_kind("Pod")
            if (pod.get("status") or {}).get("phase") == "Running"
            and (pod["metadata"].get("labels") or {}).get(LABEL_ROLE) == "work"
        }
        addresses = [(uid, str(pod["status"].get("podIP") or "")) for uid, pod in running.items()]
        answers = await pull(workers, [(uid, address) for uid, address in addresses if address])
        memory = self.controller.memory
        for uid, progress in answers.items():
            if memory.progress.get(uid) != progress:
                self.controller.concern("Pod", running[uid])
        memory.progress = {uid: known for uid, known in memory.progress.items() if uid in running} | answers

    async def _until_stopped(self, waiting: object) -> bool:
        """Await something unless stopped first; whether it ended by itself."""
        task, stop = asyncio.ensure_future(waiting), asyncio.create_task(self._stop.wait())  # type: ignore[call-overload]
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            return False
        task.result()
        return True

    def _candidate(self) -> Elector:
        api = KubeLease(self.kube, self.settings.namespace, LEASE_NAME)
        return Elector(api, LEASE_NAME, self.settings.identity, LeaseTiming(), time.monotonic)


async def _quietly(action: object) -> None:
    try:
        await action  # type: ignore[misc]
    except (*UNREACHABLE, KubeError, RuntimeError) as error:
        log.warning("%s", str(error) or type(error).__name__)


async def run_operator() -> int:
    """Run an operator with the settings of the environment; returns the exit code."""
    identity = f"{socket.gethostname()}-{os.getpid()}"
    settings = Settings.from_environment(os.environ, identity)
    kube = await Kube.connect_default()
    operator = Operator(kube, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    try:
        return await operator.run()
    finally:
        await kube.close()
