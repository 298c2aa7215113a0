"""Progress on a terminal (a live bar) or in a log (plain lines): always on stderr, results go to stdout."""

import sys
import time
from types import TracebackType
from typing import Protocol, Self

from evalfleet.local.run.snapshot import Snapshot

PLAIN_INTERVAL_SECONDS = 5.0


class Display(Protocol):
    """Where a run tells what happens."""

    def event(self, message: str) -> None:
        """Tell one event in words."""

    def update(self, snapshot: Snapshot) -> None:
        """Show the present state."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def make_display(quiet: bool = False) -> Display:
    """The display that fits stderr: live on a terminal, plain lines otherwise, silent when asked."""
    if quiet:
        return PlainDisplay(interval_seconds=float("inf"), events=False)
    return LiveDisplay() if sys.stderr.isatty() else PlainDisplay()


class PlainDisplay:
    """One line per event and one every few seconds: for logs."""

    def __init__(self, interval_seconds: float = PLAIN_INTERVAL_SECONDS, events: bool = True) -> None:
        self._interval_seconds = interval_seconds
        self._events = events
        self._started = time.monotonic()
        self._last = float("-inf")

    def event(self, message: str) -> None:
        """Print the event with the seconds since the start."""
        if self._events:
            print(f"[{time.monotonic() - self._started:6.1f}s] {message}", file=sys.stderr, flush=True)  # noqa: T201

    def update(self, snapshot: Snapshot) -> None:
        """Print a progress line, at most one per interval."""
        if time.monotonic() - self._last >= self._interval_seconds:
            self._last = time.monotonic()
            self.event(line(snapshot))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class LiveDisplay:
    """A bar with rate, ETA and workers; events scroll above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("planning", total=None, detail="")

    def event(self, message: str) -> None:
        """Print the event above the bar."""
        self._progress.console.print(f"[dim]•[/dim] {message}", highlight=False)

    def update(self, snapshot: Snapshot) -> None:
        """Move the bar."""
        self._progress.update(
            self._task,
            description="scoring",
            total=snapshot.requests_total,
            completed=snapshot.requests_done,
            detail=_rate(snapshot) + _states(snapshot),
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()


def line(snapshot: Snapshot) -> str:
    """One progress line in words."""
    done = f"{snapshot.requests_done}/{snapshot.requests_total} requests ({snapshot.percent:.0f} %)"
    return f"{done}{_rate(snapshot)}{_states(snapshot)}"


def _rate(snapshot: Snapshot) -> str:
    if snapshot.requests_per_second <= 0:
        return ""
    eta = snapshot.eta_seconds
    return f", {snapshot.requests_per_second:.1f} requests/s" + (f", ETA {eta:.0f} s" if eta is not None else "")


def _states(snapshot: Snapshot) -> str:
    counts: dict[str, int] = {}
    for _, state in snapshot.workers:
        counts[state] = counts.get(state, 0) + 1
    listed = ", ".join(f"{count} {_label(state)}" for state, count in counts.items())
    return f", workers: {listed}" if listed else ""


def _label(state: str) -> str:
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in state).strip()
