"""A time limit of a command: when it is over the run is stopped in good order and goes on with the same command."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class TimeOverError(Exception):
    """`--timeout` was over before the run had ended."""


def seconds_of(text: str) -> float:
    """`90`, `90s`, `30m` or `2h` in seconds.

    Raises:
        ValueError: none of these, or zero.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if found is None or float(found[1]) <= 0:
        raise ValueError(f"--timeout {text}: expected a time such as 90s, 30m or 2h")
    return float(found[1]) * UNITS[found[2]]


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TimeOverError in the main thread once the time is over; None is no limit."""
    if seconds is None:
        yield
        return

    def over(*_: object) -> None:
        raise TimeOverError

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
