"""Start a local cluster, find a running one, and act on it: the interface of the CLI, the demo and the tests."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalfleet.local.cluster import control
from evalfleet.local.cluster.binaries import ensure_binaries
from evalfleet.local.cluster.config import DEFAULT_IMAGES, DEFAULT_POOLS, ClusterConfig, HostImage, Pool
from evalfleet.local.cluster.files import private_folder, write_private

Report = Callable[[str], None]

_STOP_TIMEOUT_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOCK_NAME = "lock"
ERRORS_NAME = "supervisor.stderr"


class ClusterError(RuntimeError):
    """The cluster could not be started or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class LocalCluster:
    """A running local cluster."""

    folder: Path
    start_seconds: float = 0.0

    @property
    def kubeconfig(self) -> Path:
        """Path of an administrator's kubeconfig (mode 0600)."""
        return self.folder / "kubeconfig"

    @property
    def kubectl(self) -> Path:
        """The kubectl that fits the control plane."""
        return Path(self.status()["programs"]["kubectl"])

    def status(self) -> dict[str, Any]:
        """Supervisor, servers (with process ids), nodes and the pods on them."""
        return control.request(self.folder, {"command": "status"})

    def reclaim(self, node: str, notice_seconds: float = 30.0) -> dict[str, Any]:
        """Take a node back; returns when it is gone: `{node, evicted, killed, seconds}`."""
        message = {"command": "reclaim", "node": node, "notice": notice_seconds}
        return control.request(self.folder, message, timeout_seconds=notice_seconds + 60)

    def restart_apiserver(self, down_seconds: float = 0.0) -> None:
        """Stop the API server, leave it down, start it again; returns when it is ready."""
        self.restart("kube-apiserver", down_seconds)

    def restart(self, server: str, down_seconds: float = 0.0) -> None:
        """Like `restart_apiserver` for any of the four servers."""
        message = {"command": "restart", "server": server, "down": down_seconds}
        control.request(self.folder, message, timeout_seconds=down_seconds + 120)

    def scale_pool(self, pool: str, count: int, max_count: int = 0) -> None:
        """Change how many nodes a pool keeps and may have."""
        control.request(self.folder, {"command": "scale", "pool": pool, "count": count, "max": max_count})

    def simulate_nodes(self, count: int, report: Report = lambda _: None) -> None:
        """Add `count` KWOK nodes (pool `simulated`, tainted `kwok.x-k8s.io/node`): pods without processes, for scale.

        Raises:
            BinariesMissingError: KWOK is not there and can neither be built nor downloaded.
        """
        program = ensure_binaries(["kwok"], report)["kwok"]
        control.request(self.folder, {"command": "simulate", "program": str(program), "count": count})

    def pod_pids(self, name: str, namespace: str = "default") -> dict[str, int]:
        """Process id of the first process of every running container of a pod."""
        for node in self.status()["nodes"]:
            for pod in node["pods"]:
                if (pod["namespace"], pod["name"]) == (namespace, name):
                    return dict(pod["pids"])
        return {}

    def stop(self) -> None:
        """End the cluster and everything that runs in it; its data is deleted.

        Raises:
            ClusterError: it does not end, not even by SIGKILL.
        """
        pid = _supervisor_pid(self.folder)
        with contextlib.suppress(control.ControlError):
            control.request(self.folder, {"command": "down"})
        if _wait_until_ended(self.folder, pid):
            return
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        if not _wait_until_ended(self.folder, pid):
            raise ClusterError(f"the cluster in {self.folder} does not end; its supervisor is process {pid}")


def default_folder() -> Path:
    """Where `evalfleet cluster up` keeps its one cluster (`XDG_CACHE_HOME` is honoured)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "evalfleet" / "cluster"


def attach(folder: Path) -> LocalCluster:
    """The cluster that runs in `folder`.

    Raises:
        ControlError: none does.
    """
    cluster = LocalCluster(folder)
    cluster.status()
    return cluster


def prepare(folder: Path, config: ClusterConfig, report: Report) -> None:
    """Write what the supervisor reads; missing programs are built or downloaded first."""
    if sys.platform != "linux":
        raise ClusterError("the local cluster needs Linux (host nodes use /proc and parent-death signals); use kind")
    programs = ensure_binaries(report=report)
    private_folder(folder)
    if _is_locked(folder):
        raise ClusterError(f"a cluster runs in {folder} already; stop it with: evalfleet cluster down")
    write_private(folder / "config.json", config.to_json())
    write_private(folder / "programs.json", json.dumps({name: str(path) for name, path in programs.items()}))


def supervisor_argv(folder: Path, *options: str) -> list[str]:
    """Command line of the supervisor process."""
    return [sys.executable, "-m", "evalfleet.local.cluster.supervisor", str(folder), *options]


def start_cluster(
    folder: Path, config: ClusterConfig, report: Report = lambda _: None, *, bound_to_caller: bool = False
) -> LocalCluster:
    """Start a cluster in `folder` and return when it is ready.

    With `bound_to_caller` it ends with the calling process, whatever ends that; otherwise it stays in the background.

    Raises:
        ClusterError: it did not start; the message names the log.
    """
    folder = folder.absolute()
    prepare(folder, config, report)
    lifeline = subprocess.PIPE if bound_to_caller else subprocess.DEVNULL
    errors_file = folder / ERRORS_NAME
    errors = errors_file.open("wb")
    process = subprocess.Popen(
        supervisor_argv(folder, *(["--lifeline"] if bound_to_caller else [])),
        stdin=lifeline,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,
    )
    if process.stdin is not None:
        # Kept open, and alive, until the caller ends: its end of file is the signal to stop.
        _LIFELINES[folder] = process
    errors.close()
    return LocalCluster(folder, _follow_start(process, errors_file, report))


_LIFELINES: dict[Path, "subprocess.Popen[bytes]"] = {}


def _follow_start(process: "subprocess.Popen[bytes]", errors: Path, report: Report) -> float:
    assert process.stdout is not None
    for line in process.stdout:
        message = json.loads(line)
        if "error" in message:
            raise ClusterError(f"the local cluster did not start: {message['error']}")
        if message.get("ready"):
            return float(message["seconds"])
        report(f"{message['stage']} ready after {message['seconds']:.1f} s")
    details = errors.read_text(errors="replace")[-2000:]
    raise ClusterError(f"the local cluster did not start (status {process.wait()}): {details}")


@contextmanager
def local_cluster(
    pools: Sequence[Pool] = DEFAULT_POOLS,
    images: Sequence[HostImage] = DEFAULT_IMAGES,
    folder: Path | None = None,
    report: Report = lambda _: None,
) -> Iterator[LocalCluster]:
    """A cluster for the time of a `with` block, in `folder` or in a temporary one; it ends with this process too."""
    config = ClusterConfig(tuple(pools), tuple(images))
    with contextlib.ExitStack() as stack:
        place = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evalfleet-cluster-")))
        cluster = start_cluster(place, config, report, bound_to_caller=True)
        try:
            yield cluster
        finally:
            cluster.stop()
            _LIFELINES.pop(cluster.folder).communicate()


def _supervisor_pid(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / "cluster.json").read_text())["pid"])
    except (OSError, ValueError, KeyError):
        return None


def _is_locked(folder: Path) -> bool:
    """A supervisor holds the lock of `folder` exactly as long as it lives."""
    path = folder / _LOCK_NAME
    if not path.exists():
        return False
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _wait_until_ended(folder: Path, pid: int | None) -> bool:
    deadline = time.monotonic() + _STOP_TIMEOUT_SECONDS
    while _is_locked(folder) or (pid is not None and _is_alive(pid)):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_alive(pid: int) -> bool:
    """The process exists and is no zombie (whose parent may be the caller)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
