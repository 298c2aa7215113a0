"""The parent's side of the engine process: start, submit, receive, notice its death, start another."""

import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from evalfleet_worker.loop.messages import Answers, Died, Failed, FailureKind, Hung, Loaded, Refused, Score
from evalfleet_worker.protocol import BrokenWorkerError, FailureReason, RunSpec, dumps

KILL_SECONDS = 30.0
"""A process that lives on so long after SIGKILL waits in the kernel for a device or a file system."""
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

Reply = Loaded | Refused | Answers | Failed | Died | Hung


@dataclass
class EngineProcess:
    """One engine process at a time; `incarnation` counts them."""

    run: RunSpec
    factory: str
    cache: Path
    incarnation: int = 0
    _popen: subprocess.Popen[bytes] | None = None
    _pipe: Connection | None = None

    def start(self) -> None:
        """Start a process that loads the model; `receive` tells when it is ready."""
        self.stop()
        ours, theirs = socket.socketpair()
        argv = [
            sys.executable,
            "-m",
            "evalfleet_worker.loop.child",
            str(theirs.fileno()),
            self.factory,
            str(self.cache),
        ]
        self._popen = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._pipe = Connection(ours.detach())
        self.incarnation += 1
        self._send(dumps(self.run))

    def submit(self, message: Score) -> None:
        """Hand a unit over; `receive` returns its reply."""
        self._send(message)

    def receive(self, timeout_seconds: float) -> Reply | None:
        """The next reply, `Died` when the process has ended, None when there is nothing yet."""
        assert self._pipe is not None, "start() comes first"
        try:
            if not self._pipe.poll(timeout_seconds):
                return None
            reply: Reply = self._pipe.recv()
        except (EOFError, OSError):
            return Died(self._reap())
        return reply

    def stop(self) -> None:
        """End the process at once.

        Raises:
            BrokenWorkerError: it cannot be ended.
        """
        self._reap()

    def _reap(self) -> int:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        popen, self._popen = self._popen, None
        if popen is None:
            return 0
        popen.kill()
        try:
            return popen.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise BrokenWorkerError(
                FailureReason.ENGINE_HUNG,
                "the engine process cannot be killed: it hangs in a call of the system, as with a device that is gone",
            ) from error

    def _send(self, message: object) -> None:
        assert self._pipe is not None, "start() comes first"
        try:
            self._pipe.send(message)
        except OSError:
            return  # the process is dead: receive() says so


def failure_of_death(died: Died) -> Failed:
    """What the end of an engine process says: SIGKILL comes from a host without memory, anything else from anywhere."""
    if died.code == -signal.SIGKILL:
        return Failed(FailureReason.OUT_OF_MEMORY, death_words(died), FailureKind.MACHINE)
    return Failed(FailureReason.ENGINE_CRASHED, death_words(died), FailureKind.CRASH)


def death_words(died: Died) -> str:
    """How the engine process ended, in words."""
    if died.code < 0:
        name = signal.Signals(-died.code).name
        hint = f": probably out of host memory{_memory_limit()}" if -died.code == signal.SIGKILL else ""
        return f"the engine process was killed by {name}{hint}"
    return f"the engine process ended with exit code {died.code}"


def _memory_limit() -> str:
    """The container's memory limit in words, where there is one."""
    try:
        limit = CGROUP_LIMIT.read_text("ascii").strip()
    except OSError:
        return ""
    return f" (its limit is {int(limit) / 2**30:.1f} GiB)" if limit.isdigit() else ""
