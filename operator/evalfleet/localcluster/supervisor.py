"""The process that owns a local cluster: servers, host nodes, autoscaler, control socket.

Run as `python -m evalfleet.localcluster.supervisor FOLDER [--lifeline]`; `FOLDER/config.json` and
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
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from evalfleet.localcluster import control
from evalfleet.localcluster.autoscaler import Autoscaler
from evalfleet.localcluster.config import ClusterConfig
from evalfleet.localcluster.controlplane.arguments import Endpoints
from evalfleet.localcluster.controlplane.servers import ControlPlane
from evalfleet.localcluster.files import private_folder, write_private
from evalfleet.localcluster.hostnode.fleet import Addresses, HostNodeFleet
from evalfleet.localcluster.hostnode.logserver import LogServer
from evalfleet.localcluster.hostnode.node import NodeSettings
from evalfleet.localcluster.kube import UNREACHABLE, Kube, KubeError
from evalfleet.localcluster.kubeconfig import write_kubeconfig
from evalfleet.localcluster.pki import Pki, create_pki
from evalfleet.localcluster.ports import free_ports
from evalfleet.localcluster.reclaim import reclaim

log = logging.getLogger(__name__)

_START_TIMEOUT_SECONDS = 120.0
_POLL_SECONDS = 0.05
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

    async def run(self) -> None:
        """Start everything, serve until `stopping` is set, stop everything."""
        async with AsyncExitStack() as stack:
            startup = asyncio.create_task(self._start(stack))
            stop = asyncio.create_task(self.stopping.wait())
            await asyncio.wait({startup, stop}, return_when=asyncio.FIRST_COMPLETED, timeout=_START_TIMEOUT_SECONDS)
            if not startup.done():
                startup.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await startup
                if not self.stopping.is_set():
                    raise TimeoutError(f"the control plane was not ready in {_START_TIMEOUT_SECONDS:.0f} s")
                return
            await startup  # raises what went wrong
            report(ready=True, seconds=round(time.monotonic() - self._started, 2))
            await stop

    def read_lifeline(self) -> None:
        """Nothing is ever written to it; its end means that the parent is gone."""
        if not os.read(0, 1):
            asyncio.get_running_loop().remove_reader(0)
            self.stopping.set()

    async def _start(self, stack: AsyncExitStack) -> None:
        endpoints = Endpoints(*free_ports(4))
        pki = create_pki(self.folder / "pki")
        kubeconfig = write_kubeconfig(self.folder / "kubeconfig", endpoints.server, pki.ca.certificate, pki.admin)
        kube = await self._connect(stack, pki, endpoints)
        self._mark("certificates")
        self.control_plane = ControlPlane(self.folder, self._programs, pki, endpoints)
        stack.push_async_callback(self.control_plane.kill)
        await self.control_plane.start(lambda: self._until(kube, "/readyz", "kube-apiserver"))
        await self._until(kube, "/api/v1/namespaces/default/serviceaccounts/default", "kube-controller-manager")
        await self._start_nodes(stack, kube, pki, endpoints)
        self._write_state(kubeconfig, endpoints)
        server = await control.serve(self.folder, self._handle)
        stack.callback(server.close)

    async def _connect(self, stack: AsyncExitStack, pki: Pki, endpoints: Endpoints) -> Kube:
        path = self.folder / "pki" / "host-nodes.kubeconfig"
        kube = await Kube.connect(write_kubeconfig(path, endpoints.server, pki.ca.certificate, pki.host_nodes))
        stack.push_async_callback(kube.close)
        return kube

    async def _start_nodes(self, stack: AsyncExitStack, kube: Kube, pki: Pki, endpoints: Endpoints) -> None:
        version = (await kube.get("/version"))["gitVersion"]
        pods = private_folder(self.folder / "pods")
        settings = NodeSettings(endpoints.kubelet, version, pods, Addresses().take)
        # In-cluster clients reach the API server at its real address: Services have no proxy here.
        environment = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(endpoints.apiserver)}
        self.fleet = HostNodeFleet(kube, self._config, settings, environment)
        stack.push_async_callback(self.fleet.power_off)
        logs = LogServer(self.fleet, pki)
        await logs.start(endpoints.kubelet)
        stack.push_async_callback(logs.stop)
        await self._launch_first_nodes()
        self._background(stack, self.fleet.follow_pods())
        self._background(stack, Autoscaler(self.fleet).run())

    async def _launch_first_nodes(self) -> None:
        """Nodes without a start-up time are there when the cluster is ready; the autoscaler starts the others."""
        first = [pool for pool in self._config.pools for _ in range(pool.count) if pool.startup_seconds == 0]
        await asyncio.gather(*(self.fleet.launch(pool) for pool in first))
        self._mark("host nodes")

    def _background(self, stack: AsyncExitStack, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._failed)
        stack.callback(task.cancel)

    def _failed(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical("a part of the cluster failed; stopping it", exc_info=task.exception())
            self.stopping.set()

    async def _until(self, kube: Kube, path: str, stage: str) -> None:
        while True:
            with contextlib.suppress(*UNREACHABLE, KubeError):
                await kube.get(path)
                break
            await asyncio.sleep(_POLL_SECONDS)
        self._mark(stage)

    def _mark(self, stage: str) -> None:
        self._timings[stage] = round(time.monotonic() - self._started, 2)
        report(stage=stage, seconds=self._timings[stage])

    def _write_state(self, kubeconfig: Path, endpoints: Endpoints) -> None:
        state = {"pid": os.getpid(), "server": endpoints.server, "kubeconfig": str(kubeconfig)}
        write_private(self.folder / "cluster.json", json.dumps(state, indent=2))

    async def _handle(self, message: control.Answer) -> control.Answer:
        handlers = {
            "status": self._status,
            "reclaim": self._reclaim,
            "restart": self._restart,
            "scale": self._scale,
            "down": self._down,
        }
        command = message.get("command")
        if command not in handlers:
            raise ValueError(f"unknown command {command!r}")
        return await handlers[command](message)

    async def _status(self, _: control.Answer) -> control.Answer:
        return {
            "pid": os.getpid(),
            "kubeconfig": str(self.folder / "kubeconfig"),
            "servers": self.control_plane.pids(),
            "startSeconds": self._timings,
            "programs": {name: str(path) for name, path in self._programs.items()},
            "nodes": [
                {
                    "name": node.name,
                    "pool": node.pool.name,
                    "capacityType": node.pool.capacity_type,
                    "gpus": node.pool.gpus,
                    "reclaiming": node.reclaiming,
                    "pods": [_pod_summary(runner) for runner in node.pods.values()],
                }
                for node in self.fleet.nodes.values()
            ],
            "launching": {name: count for name, count in self.fleet.launching.items() if count},
        }

    async def _reclaim(self, message: control.Answer) -> control.Answer:
        node = self.fleet.nodes.get(message["node"])
        if node is None:
            raise ValueError(f"no node {message['node']!r}; there are: {', '.join(self.fleet.nodes) or 'none'}")
        if node.reclaiming:
            raise ValueError(f"node {node.name} is being reclaimed already")
        return asdict(await reclaim(self.fleet, node, float(message["notice"])))

    async def _restart(self, message: control.Answer) -> control.Answer:
        server = self.control_plane.servers.get(message["server"])
        if server is None:
            raise ValueError(f"no server {message['server']!r}")
        await server.restart(float(message.get("down", 0)))
        await self._until(self.fleet.kube, "/readyz", f"{server.name} restarted")
        return {"pid": self.control_plane.pids()[server.name]}

    async def _scale(self, message: control.Answer) -> control.Answer:
        pool = self.fleet.pools.get(message["pool"])
        if pool is None:
            raise ValueError(f"no pool {message['pool']!r}; there are: {', '.join(self.fleet.pools)}")
        changed = replace(pool, count=int(message["count"]), max_count=int(message["max"]))
        self.fleet.pools[pool.name] = changed
        self.fleet.changed.set()
        return {"pool": pool.name, "count": changed.count, "max": changed.limit}

    async def _down(self, _: control.Answer) -> control.Answer:
        asyncio.get_running_loop().call_soon(self.stopping.set)
        return {"stopping": True}


def _pod_summary(runner: Any) -> control.Answer:
    metadata = runner.pod["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "podIP": runner.facts.pod_ip,
        "folder": str(runner.folder),
        "finished": runner.finished.is_set(),
        "pids": runner.pids(),
    }


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
