"""One process of a run from start to end: its report, or its error with the log that has the rest."""

import time
from pathlib import Path
from typing import TypeVar

from evalfleet.local.run.display import Display
from evalfleet.local.run.processes import Launch, Process, start, tail
from evalfleet.local.run.silence import SILENCE_SECONDS, heard, silence_words
from evalfleet_worker.protocol import ErrorReport, FailureReason, RunError, RunSpec, loads

POLL_SECONDS = 0.05

Report = TypeVar("Report")


class StepError(RunError):
    """A RunError of a process of this run; `log` is the file with everything that it said."""

    def __init__(self, error: ErrorReport, log: Path) -> None:
        super().__init__(error.reason, error.message)
        self.log = log


def run_step(launch: Launch, command: str, kind: type[Report], display: Display) -> Report:
    """Run one process to its end and read its report; says so when it is silent for long.

    Raises:
        StepError: in its own words, or that it ended without any.
    """
    process = start(launch, command, command)
    try:
        code = wait(process, launch.spec, display)
    except BaseException:
        process.kill()
        raise
    error = process.error() if code else None
    if error is not None:
        raise StepError(error, process.log)
    try:
        return loads(kind, process.termination_log.read_bytes())
    except (OSError, ValueError) as cause:
        raise error_of(process) from cause


def run_silent_step(launch: Launch, command: str, display: Display) -> None:
    """Run one process that leaves no report.

    Raises:
        StepError: it failed.
    """
    process = start(launch, command, command)
    if wait(process, launch.spec, display):
        raise error_of(process)


def wait(process: Process, spec: RunSpec, display: Display) -> int:
    """Exit code of a process; every ten seconds without a word of it somebody is told, and who does not answer."""
    news, told = heard(process.log), time.monotonic()
    while (code := process.popen.poll()) is None:
        time.sleep(POLL_SECONDS)
        if (now := heard(process.log)) != news:
            news, told = now, time.monotonic()
        elif time.monotonic() - told >= SILENCE_SECONDS:
            display.event(silence_words(process.name, time.monotonic() - told, spec, process.log))
            told = time.monotonic()
    return code


def error_of(process: Process) -> StepError:
    """What a process that ended badly said, or how it ended."""
    how = f"{process.name} ended with exit code {process.popen.returncode} and no report"
    silent = ErrorReport(FailureReason.INTERNAL_ERROR, f"{how}:\n{tail(process.log)}")
    return StepError(process.error() or silent, process.log)
