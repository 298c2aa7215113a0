"""The composition root of the operator: lease, watches, workers of the queue, progress, health."""

import asyncio
import logging
import os
import signal
import socket
import time

from evalfleet import __version__, limits
from evalfleet.controller.controller import Controller, always
from evalfleet.controller.health import Vitals, why_not_alive, why_not_ready
from evalfleet.controller.http import serve
from evalfleet.controller.leader import Elector, LeaseTiming
from evalfleet.controller.ledgers import sweep_for_ever
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.nodes import follow_nodes
from evalfleet.controller.progress import pull_for_ever
from evalfleet.controller.refusals import follow_refusals
from evalfleet.controller.settings import Settings
from evalfleet.controller.sync import Sync
from evalfleet.controller.watch import Watcher
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError
from evalfleet.kube.lease import KubeLease
from evalfleet_scaling.fleet import decide_fleet

log = logging.getLogger(__name__)

LEASE_NAME = "evalfleet-operator"


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
        self._sync = Sync(kube, self.controller, settings.watch_namespaces)
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
                await _quietly(asyncio.wait_for(elector.release(), limits.RELEASE_SECONDS))
            await http.cleanup()

    def vitals(self) -> Vitals:
        """What liveness and readiness are judged by."""
        now = time.monotonic()
        answered_at = self._elector.answered_at if self._elector is not None else None
        return Vitals(
            leading=self.leading,
            watching=self._watcher is not None and self._watcher.alive,
            lease_seconds=None if answered_at is None else now - answered_at,
            listed_seconds=None if self._sync.listed_at is None else now - self._sync.listed_at,
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
        await self._sync.first()
        watcher = Watcher(self._sync.served, asyncio.get_running_loop(), self.controller.router.deliver)
        self._watcher = watcher
        watcher.start()
        lost = self.controller.memory.lost_nodes
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(limits.QUEUE_WORKERS):
                    group.create_task(self.controller.work())
                group.create_task(self._sync.for_ever(self.settings.resync_seconds))
                group.create_task(pull_for_ever(self.controller, self.settings.progress_seconds))
                group.create_task(follow_nodes(self.kube, lost, self.controller.router.nodes_lost))
                group.create_task(follow_refusals(self.kube, self.controller))
                group.create_task(sweep_for_ever(self.kube, self.controller))
                group.create_task(self._watch_the_watcher(watcher))
        finally:
            await asyncio.to_thread(watcher.stop)

    async def _watch_the_watcher(self, watcher: Watcher) -> None:
        while watcher.alive:
            await asyncio.sleep(limits.WATCH_CHECK_SECONDS)
        raise RuntimeError(f"the watches have ended: {watcher.error!r}")

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


def settings_of_process() -> Settings:
    """The settings of the environment, with a name of this process in the Lease.

    Raises:
        SettingsError: the environment holds what is no setting.
    """
    return Settings.from_environment(os.environ, f"{socket.gethostname()}-{os.getpid()}")


async def run_operator(settings: Settings) -> int:
    """Run an operator; returns the exit code."""
    kube = await Kube.connect_default(field_manager="evalfleet")
    operator = Operator(kube, settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, operator.stop)
    try:
        return await operator.run()
    finally:
        await kube.close()
