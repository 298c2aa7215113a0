"""One running container: the launcher's child, its signals and its exit code."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

from evalfleet.local.cluster.processes import launcher_argv

_KILLED = 137


class StartError(Exception):
    """The program could not be executed."""


@dataclass(frozen=True)
class Launch:
    """What to execute."""

    argv: list[str]
    environment: dict[str, str]
    cwd: str
    log: Path


class ContainerProcess:
    """A container between its start and its end."""

    def __init__(self, launcher: asyncio.subprocess.Process, pid: int) -> None:
        self._launcher = launcher
        self.pid = pid
        self.out_of_memory = False

    @classmethod
    async def start(cls, launch: Launch) -> "ContainerProcess":
        """Execute `launch`.

        Raises:
            StartError: the program does not exist or is not executable.
        """
        log = os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            launcher = await asyncio.create_subprocess_exec(
                *launcher_argv("sandbox", str(log), launch.cwd),
                *launch.argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=launch.environment,
                pass_fds=(log,),
                start_new_session=True,
            )
        finally:
            os.close(log)
        message = await _next_message(launcher)
        if "pid" not in message:
            await launcher.wait()
            raise StartError(str(message.get("startError", "the launcher ended")))
        return cls(launcher, int(str(message["pid"])))

    async def wait(self) -> int:
        """Exit code as Kubernetes counts it: 128 + n after signal n."""
        message = await _next_message(self._launcher)
        await self._launcher.wait()
        code = int(str(message.get("exitCode", _KILLED)))
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        """SIGTERM to the container's first process."""
        self._command(b"T")

    def kill(self) -> None:
        """SIGKILL to all processes of the container."""
        self._command(b"K")

    def _command(self, command: bytes) -> None:
        pipe = self._launcher.stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(command)


async def _next_message(launcher: asyncio.subprocess.Process) -> dict[str, object]:
    assert launcher.stdout is not None
    line = await launcher.stdout.readline()
    return json.loads(line) if line else {}
