"""The process that owns a local cluster: servers, host nodes, autoscaler, control socket.

Run as `python -m evalfleet.local.cluster.supervisor FOLDER [--lifeline]`; `FOLDER/config.json` and
`FOLDER/programs.json` must exist. Progress goes to standard output as JSON lines and ends with `{"ready": true}` or
`{"error": ...}`. With `--lifeline` the end of standard input ends the cluster. Everything it started ends with it.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evalfleet.local.cluster import control
from evalfleet.local.cluster.binaries.release import KUBERNETES_VERSION
from evalfleet.local.cluster.config import ClusterConfig
from evalfleet.local.cluster.controlplane.arguments import Endpoints
from evalfleet.local.cluster.controlplane.servers import ControlPlane
from evalfleet.local.cluster.files import private_folder, write_private
from evalfleet.local.cluster.kubeconfig import write_kubeconfig
from evalfleet.local.cluster.pki import KeyPair, create_pki
from evalfleet.local.cluster.ports import free_ports

if TYPE_CHECKING:
    from evalfleet.kube.client import Kube
    from evalfleet.local.cluster.hostnode.fleet import HostNodeFleet

log = logging.getLogger(__name__)

_START_TIMEOUT_SECONDS = 120.0
LOCK_NAME = "lock"
_OWNED = ("etcd", "pki", "pods", "logs", "kubeconfig", "cluster.json", control.SOCKET_NAME)


class Supervisor:
    """One cluster from start to stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stopping = asyncio.Event()
        self._config = ClusterConfig.from_json((folder / "config.json").read_text())
        self._programs = {name: Path(path) for name, path in json.loads((folder / "programs.json").read_text()).items()}
        self._started = time.monotonic()
        self._timings: dict[str, float] = {}
        self._endpoints = Endpoints(*free_ports(4))
        self._pki = create_pki(folder / "pki")
        self._control_plane = ControlPlane(folder, self._programs, self._pki, self._endpoints)

    async def run(self) -> None:
        """Start everything, serve until `stopping` is set, stop everything."""
        async with AsyncExitStack() as stack:
            if await self._start_or_stop(stack):
                report(ready=True, seconds=round(time.monotonic() - self._started, 2))
                await self.stopping.wait()

    async def _start_or_stop(self, stack: AsyncExitStack) -> bool:
        """Whether everything is up; False when it was asked to stop meanwhile.

        Raises:
            ServerError: a server does not stay up.
            TimeoutError: it takes too long.
        """
        control_plane = self._control_plane
        stack.push_async_callback(control_plane.kill)
        work = (self._start(stack), control_plane.fail_if_unstable(), self.stopping.wait())
        tasks = [asyncio.create_task(item) for item in work]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=_START_TIMEOUT_SECONDS)
            done = [task for task in tasks if task.done()]
            if not done:
                raise TimeoutError(f"the control plane was not ready in {_START_TIMEOUT_SECONDS:.0f} s")
            for task in done:
                task.result()  # raises what went wrong
            return tasks[0] in done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def read_lifeline(self) -> None:
        """Nothing is ever written to it; its end means that the parent is gone."""
        if not os.read(0, 1):
            asyncio.get_running_loop().remove_reader(0)
            self.stopping.set()

    async def _start(self, stack: AsyncExitStack) -> None:
        self._mark("certificates")
        await self._control_plane.start_storage()
        # The API server needs seconds to start; the remaining imports happen meanwhile.
        from evalfleet.kube.client import Kube, wait_until_answered
        from evalfleet.local.cluster.connection import DirectConnection

        kube = Kube(DirectConnection(self._endpoints.server, self._pki, self._pki.host_nodes))
        stack.push_async_callback(kube.close)
        fleet = self._fleet(kube)
        await wait_until_answered(kube, "/readyz")
        self._mark("kube-apiserver")
        await self._control_plane.start_controllers()
        await wait_until_answered(kube, "/api/v1/namespaces/default/serviceaccounts/default")
        self._mark("kube-controller-manager")
        await self._start_nodes(stack, fleet)
        self._kubeconfig("kubeconfig", self._pki.admin)
        await self._listen(stack, fleet)

    def _kubeconfig(self, name: str, user: KeyPair) -> Path:
        return write_kubeconfig(self.folder / name, self._endpoints.server, self._pki.ca.certificate, user)

    def _fleet(self, kube: "Kube") -> "HostNodeFleet":
        from evalfleet.local.cluster.hostnode.fleet import Addresses, HostNodeFleet
        from evalfleet.local.cluster.hostnode.node import NodeSettings

        pods = private_folder(self.folder / "pods")
        settings = NodeSettings(self._endpoints.kubelet, KUBERNETES_VERSION, pods, Addresses().take)
        # In-cluster clients reach the API server at its real address: Services have no proxy here.
        environment = {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._endpoints.apiserver),
        }
        return HostNodeFleet(kube, self._config, settings, environment)

    async def _start_nodes(self, stack: AsyncExitStack, fleet: "HostNodeFleet") -> None:
        from evalfleet.local.cluster.autoscaler import Autoscaler
        from evalfleet.local.cluster.hostnode.logserver import LogServer

        stack.push_async_callback(fleet.power_off)
        logs = LogServer(fleet, self._pki)
        await logs.start(self._endpoints.kubelet)
        stack.push_async_callback(logs.stop)
        # Nodes without a start-up time are there when the cluster is ready; the autoscaler starts the others.
        first = [pool for pool in self._config.pools for _ in range(pool.count) if pool.startup_seconds == 0]
        await asyncio.gather(*(fleet.launch(pool) for pool in first))
        self._mark("host nodes")
        self._background(stack, fleet.follow_pods())
        self._background(stack, fleet.follow_nodes())
        self._background(stack, Autoscaler(fleet).run())

    async def _listen(self, stack: AsyncExitStack, fleet: "HostNodeFleet") -> None:
        from evalfleet.local.cluster.operations import Operations

        facts = {
            "pid": os.getpid(),
            "kubeconfig": str(self.folder / "kubeconfig"),
            "startSeconds": self._timings,
            "programs": {name: str(path) for name, path in self._programs.items()},
        }
        write_private(self.folder / "cluster.json", json.dumps(facts, indent=2))
        operations = Operations(facts, self._control_plane, fleet, self.stopping)
        server = await control.serve(self.folder, operations.handle)
        stack.callback(server.close)

    def _background(self, stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._failed)
        stack.callback(task.cancel)

    def _failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the cluster failed; stopping it", exc_info=task.exception())
            self.stopping.set()

    def _mark(self, stage: str) -> None:
        self._timings[stage] = round(time.monotonic() - self._started, 2)
        report(stage=stage, seconds=self._timings[stage])


def report(**fields: Any) -> None:
    """One line of progress for whoever started the supervisor; nobody may be listening any more."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(fields).encode() + b"\n")


def lock_folder(folder: Path) -> IO[str]:
    """Take the folder for this process.

    Raises:
        BlockingIOError: another cluster runs in it.
    """
    lock = (private_folder(folder) / LOCK_NAME).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return lock


def clear_folder(folder: Path) -> None:
    """Remove what an earlier cluster left in `folder`, and nothing else."""
    for name in _OWNED:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


async def serve(folder: Path, *, lifeline: bool) -> None:
    """Run the cluster of `folder` until a signal, the `down` command or the end of the lifeline."""
    supervisor = Supervisor(folder)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.stopping.set)
    if lifeline:
        loop.add_reader(0, supervisor.read_lifeline)
    await supervisor.run()


def main() -> None:
    """Entry point of the supervisor process."""
    folder, lifeline = Path(sys.argv[1]), "--lifeline" in sys.argv[2:]
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        lock = lock_folder(folder)
    except BlockingIOError:
        report(error=f"a cluster runs in {folder} already")
        sys.exit(1)
    clear_folder(folder)
    logs = private_folder(folder / "logs")
    if sys.version_info < (3, 12):  # later versions choose it themselves; the default here is a thread per process
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())
    logging.basicConfig(
        filename=logs / "supervisor.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        asyncio.run(serve(folder, lifeline=lifeline))
    except Exception as error:
        log.exception("the cluster failed")
        report(error=f"{error} (details in {logs})")
        sys.exit(1)
    finally:
        for name in ("cluster.json", "kubeconfig", control.SOCKET_NAME):
            (folder / name).unlink(missing_ok=True)
        for name in ("etcd", "pki", "pods"):
            shutil.rmtree(folder / name, ignore_errors=True)
        # Not closed here: the kernel releases it when the process has really ended.
        assert not lock.closed


if __name__ == "__main__":
    main()
