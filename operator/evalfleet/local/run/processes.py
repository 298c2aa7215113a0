"""Worker processes of a local run: started with their environment, read through /progress, never left behind."""

import atexit
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evalfleet.local.run.layout import Seat
from evalfleet_worker.protocol import ErrorReport, Progress, RunSpec, dumps, loads

PROGRESS_LIMIT_BYTES = 64 * 1024
PROGRESS_TIMEOUT_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """What the processes that this command starts for one run share.

    Attributes:
        spec: what is run.
        scratch: the spec and the last words of the processes; this command's own, so that another one that looks at
            the same run at the same time takes nothing for its own. Gone when the command ends.
        log_folder: one log file per process.
        cache: node cache (models).
    """

    spec: RunSpec
    scratch: Path
    log_folder: Path
    cache: Path

    @classmethod
    def prepare(cls, spec: RunSpec, folder: Path, cache: Path) -> "Launch":
        """Write the spec down and describe the launch."""
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="evalfleet-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        launch = cls(spec, scratch, folder, cache)
        launch.spec_path.write_text(dumps(spec), "utf-8")
        return launch

    @property
    def spec_path(self) -> Path:
        """File with the spec."""
        return self.scratch / "spec.json"

    def environment(self, seat: Seat | None) -> dict[str, str]:
        """The environment of a process: device and threads of a worker are explicit, the rest is inherited."""
        shared = {**os.environ, "EVALFLEET_CACHE": str(self.cache), "TOKENIZERS_PARALLELISM": "false"}
        if seat is None:
            return shared
        threads = str(seat.threads)
        own = {"EVALFLEET_THREADS": threads, "OMP_NUM_THREADS": threads, "EVALFLEET_DEVICE": seat.device}
        return {**shared, **own}


@dataclass
class Process:
    """One running process of the run and what it leaves behind."""

    name: str
    popen: subprocess.Popen[bytes]
    termination_log: Path
    log: Path
    progress_address: str | None = None
    seat: Seat | None = None
    stopped: bool = False
    last_progress: Progress | None = field(default=None, repr=False)

    def error(self) -> ErrorReport | None:
        """The error it reported before it ended, if it did."""
        try:
            return loads(ErrorReport, self.termination_log.read_bytes())
        except (OSError, ValueError):
            return None

    def poll_progress(self) -> Progress | None:
        """Ask `GET /progress`; None when there is no trustworthy answer within a second."""
        if self.progress_address is None:
            return None
        try:
            url = f"http://{self.progress_address}/progress"
            with urllib.request.urlopen(url, timeout=PROGRESS_TIMEOUT_SECONDS) as response:
                self.last_progress = loads(Progress, response.read(PROGRESS_LIMIT_BYTES))
        except (OSError, ValueError, urllib.error.URLError):
            return None
        return self.last_progress

    def stop(self) -> None:
        """Ask it to stop (SIGTERM): it finishes or drops the unit in flight."""
        if self.popen.poll() is None:
            self.stopped = True
            self.popen.terminate()

    def kill(self) -> None:
        """SIGKILL the process and everything it started."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)


def start(
    launch: Launch, command: str, name: str, arguments: Mapping[str, str] | None = None, seat: Seat | None = None
) -> Process:
    """Start `python -m evalfleet_worker COMMAND` in a session of its own that ends with this process."""
    log, termination_log = launch.log_folder / f"{name}.log", launch.scratch / f"{name}.termination.json"
    termination_log.unlink(missing_ok=True)
    options = {"--spec": str(launch.spec_path), "--termination-log": str(termination_log), **(arguments or {})}
    argv = [sys.executable, "-m", "evalfleet_worker", command, *(part for pair in options.items() for part in pair)]
    with log.open("ab") as output:
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=launch.environment(seat),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    return Process(name, popen, termination_log, log, seat=seat)


def start_worker(launch: Launch, name: str, seat: Seat) -> Process:
    """Start one worker that serves its progress on a free loopback port."""
    address = f"127.0.0.1:{_free_port()}"
    process = start(launch, "work", name, {"--worker": name, "--progress": address}, seat)
    process.progress_address = address
    return process


def tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:])
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, object] | None:
    """The JSON object of a termination message, or None."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _end_with_parent() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
