"""What to do when a worker process ends. Pure: the supervisor acts on the returned value."""

import signal
from dataclasses import dataclass

from evalfleet_worker.protocol import ErrorReport, ExitCode

CRASH_LIMIT = 6
"""Unexpected exits of one run before it is given up; kills from outside do not count."""


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker process ended.

    Attributes:
        worker: its name.
        code: exit code, negative = killed by that signal.
        error: what the worker said, where it had time to.
        stopped: whether the supervisor had asked it to stop.
        broken_before: whether a worker in its place ended broken before.
        alone: whether work may be left, and no other worker to do it.
    """

    worker: str
    code: int
    error: ErrorReport | None = None
    stopped: bool = False
    broken_before: bool = False
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from a worker's end: give its claims back, replace it, or give the run up."""

    message: str
    release: bool = False
    replace: bool = False
    give_up: bool = False
    crash: bool = False
    broken: bool = False


def react(ended: WorkerExit, crashes: int) -> Reaction:
    """Decide what follows from one worker's end after `crashes` earlier unexpected ends."""
    if ended.code == ExitCode.DONE:
        return Reaction(f"{ended.worker} finished: nothing is left to claim")
    if ended.stopped:
        return Reaction(f"{ended.worker} stopped", release=True)
    if ended.code == ExitCode.FATAL:
        return Reaction(_said(ended), give_up=True)
    if ended.code in (ExitCode.UNSUITABLE, ExitCode.BROKEN_WORKER):
        return _place_is_bad(ended)
    if ended.code < 0:
        name = signal.Signals(-ended.code).name
        return Reaction(f"{ended.worker} was killed ({name}); its unit is given back", release=True, replace=True)
    if ended.code in (ExitCode.TERMINATED, ExitCode.DISRUPTED):
        return Reaction(f"{ended.worker} left early; its unit is given back", release=True, replace=True)
    if crashes + 1 >= CRASH_LIMIT:
        return Reaction(f"{_said(ended)} ({crashes + 1} unexpected exits: giving up)", give_up=True, crash=True)
    return Reaction(f"{_said(ended)}; starting another", release=True, replace=True, crash=True)


def _place_is_bad(ended: WorkerExit) -> Reaction:
    """One other worker is tried where one broke; none where the place cannot compute the run. The rest goes on."""
    said = f"{ended.worker}: {_said(ended)}"
    if ended.code == ExitCode.BROKEN_WORKER and not ended.broken_before:
        return Reaction(f"{said}; starting one other in its place", release=True, replace=True, broken=True)
    if ended.alone:
        return Reaction(f"{said}; no worker is left", release=True, give_up=True)
    return Reaction(f"{said}; the others go on without it", release=True)


def _said(ended: WorkerExit) -> str:
    return ended.error.message if ended.error else f"{ended.worker} ended unexpectedly with exit code {ended.code}"
