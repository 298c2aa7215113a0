"""Child processes that end with the supervisor, and their orderly stop."""

import asyncio
import os
import signal
import sys
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")


def launcher_argv(mode: str, *options: str) -> list[str]:
    """Command line of the launcher; `-I -S` keeps its start-up to milliseconds and ignores the user's environment."""
    return [sys.executable, "-I", "-S", str(LAUNCHER), mode, str(os.getpid()), *options, "--"]


async def start_server(argv: list[str], log: Path) -> asyncio.subprocess.Process:
    """Start a control-plane server in a session of its own, its output appended to `log`."""
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *launcher_argv("exec"),
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C goes to the supervisor alone, which stops the servers in order
        )


async def stop_process(process: asyncio.subprocess.Process, grace_seconds: float) -> int:
    """SIGTERM, then SIGKILL after `grace_seconds` (at once if that is zero); the exit status."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM if grace_seconds else signal.SIGKILL)
    try:
        return await asyncio.wait_for(process.wait(), grace_seconds or None)
    except TimeoutError:
        process.kill()
        return await process.wait()
