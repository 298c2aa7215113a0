"""One supervisor per local run: an advisory lock that the kernel releases however the process ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class RunBusyError(Exception):
    """Another process on this machine runs the same evaluation now."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run's lock.

    Raises:
        RunBusyError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"this evaluation is running already (lock {folder / 'lock'}); wait for it or stop it first"
            raise RunBusyError(message) from None
        yield
