"""The parent's side of the engine process: start, submit, receive, notice its death, start another."""

import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from evalfleet_worker.loop.messages import Answers, Died, Failed, Loaded, Refused, Score
from evalfleet_worker.protocol import RunSpec, dumps

Reply = Loaded | Refused | Answers | Failed | Died


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
        """End the process at once."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()
        self._reap()

    def _reap(self) -> int:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None
        if self._popen is None:
            return 0
        if self._popen.poll() is None:
            self._popen.kill()
        return self._popen.wait()

    def _send(self, message: object) -> None:
        assert self._pipe is not None, "start() comes first"
        try:
            self._pipe.send(message)
        except OSError:
            return  # the process is dead: receive() says so


def death_words(died: Died) -> str:
    """How the engine process ended, in words."""
    if died.code < 0:
        name = signal.Signals(-died.code).name
        hint = ": probably out of memory" if -died.code == signal.SIGKILL else ""
        return f"the engine process was killed by {name}{hint}"
    return f"the engine process ended with exit code {died.code}"
