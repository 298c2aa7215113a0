"""Start, watch, restart and stop the four servers."""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from evalfleet.local.cluster.controlplane.arguments import (
    Endpoints,
    apiserver_arguments,
    controller_manager_arguments,
    etcd_arguments,
    scheduler_arguments,
)
from evalfleet.local.cluster.files import private_folder
from evalfleet.local.cluster.kubeconfig import write_kubeconfig
from evalfleet.local.cluster.pki import Pki
from evalfleet.local.cluster.processes import start_server, stop_process

log = logging.getLogger(__name__)

# The API server drains its connections for up to a minute; a crash is as good a restart.
_STOP_GRACE_SECONDS = 3.0
_RESTART_PAUSE_SECONDS = 0.5
_LISTENING_POLL_SECONDS = 0.02
# While the cluster starts: a server that gives up once, because etcd was slow, deserves another attempt.
_MOST_STARTS = 4
_LOG_LINES = 5


class ServerError(RuntimeError):
    """A server cannot run."""


@dataclass
class Server:
    """One server that is started again whenever it ends, until it is stopped."""

    name: str
    argv: list[str]
    log_file: Path
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    _runner: asyncio.Task[None] | None = None
    _held: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        """Start it and keep it running."""
        self._held.set()
        await self._spawn()
        self._runner = asyncio.create_task(self._keep_running(), name=self.name)

    async def _spawn(self) -> None:
        self.process = await start_server(self.argv, self.log_file)
        self.starts += 1

    async def _keep_running(self) -> None:
        while True:
            assert self.process is not None
            code = await self.process.wait()
            log.warning("%s ended with status %s; starting it again", self.name, code)
            await asyncio.sleep(_RESTART_PAUSE_SECONDS)
            await self._held.wait()
            await self._spawn()

    async def restart(self, down_seconds: float = 0.0) -> None:
        """Stop it in order, leave it down for `down_seconds`, start it again."""
        starts = self.starts
        self._held.clear()
        if self.process is not None:
            await stop_process(self.process, _STOP_GRACE_SECONDS)
        await asyncio.sleep(down_seconds)
        self._held.set()
        while self.starts == starts:
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it for good."""
        if self._runner is not None:
            self._runner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._runner
        if self.process is not None:
            await stop_process(self.process, 0.0)


class ControlPlane:
    """The four servers of one cluster."""

    def __init__(self, folder: Path, programs: dict[str, Path], pki: Pki, endpoints: Endpoints) -> None:
        self._folder, self._programs = folder, programs
        self._pki, self._endpoints = pki, endpoints
        self._logs = private_folder(folder / "logs")
        self.servers: dict[str, Server] = {}

    async def start_storage(self) -> None:
        """Start etcd, then the API server: one that finds no etcd tries again only after a second."""
        await self._start("etcd", etcd_arguments(self._pki, self._endpoints, private_folder(self._folder / "etcd")))
        await _until_listening(self._endpoints.etcd_client)
        await self._start("kube-apiserver", apiserver_arguments(self._pki, self._endpoints))

    async def start_controllers(self) -> None:
        """Start what gives up when the API server does not answer."""
        controller_manager = self._kubeconfig("controller-manager")
        await self._start("kube-controller-manager", controller_manager_arguments(self._pki, controller_manager))
        await self._start("kube-scheduler", scheduler_arguments(self._kubeconfig("scheduler")))

    async def kill(self) -> None:
        """End all of them at once: the data of a local cluster goes with it, so nothing is worth waiting for."""
        await asyncio.gather(*(server.kill() for server in self.servers.values()))

    def pids(self) -> dict[str, int]:
        """Process id of every running server."""
        return {name: server.process.pid for name, server in self.servers.items() if server.process is not None}

    async def fail_if_unstable(self) -> None:
        """Return never, but raise when a server has ended again and again.

        Raises:
            ServerError: with the last lines of its log.
        """
        while True:
            for server in self.servers.values():
                if server.starts >= _MOST_STARTS:
                    lines = server.log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:]
                    raise ServerError(f"{server.name} does not stay up; it said: " + " | ".join(lines))
            await asyncio.sleep(_RESTART_PAUSE_SECONDS)

    async def _start(self, name: str, arguments: list[str]) -> None:
        await self.start_server(name, self._programs[name], arguments)

    async def start_server(self, name: str, program: Path, arguments: list[str]) -> None:
        """Start a program that belongs to the cluster and ends with it."""
        server = Server(name, [str(program), *arguments], self._logs / f"{name}.log")
        self.servers[name] = server
        await server.start()

    def _kubeconfig(self, name: str) -> Path:
        user = self._pki.controller_manager if name == "controller-manager" else self._pki.scheduler
        path = self._folder / "pki" / f"{name}.kubeconfig"
        return write_kubeconfig(path, self._endpoints.server, self._pki.ca.certificate, user)


async def _until_listening(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(_LISTENING_POLL_SECONDS)
        else:
            writer.close()
            return
