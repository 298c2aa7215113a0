"""The API server's clock, from the Date headers of its answers: its stamps are never compared with another clock.

A Date header names a whole second `d`, so that the server's time was in [d, d + 1) at some moment between sending the
request and receiving the answer. Every answer bounds the difference to the local monotonic clock from both sides; the
bounds of many answers meet within a fraction of a second (Cristian's algorithm with interval intersection).
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RESOLUTION_SECONDS = 1.0


class ServerClock:
    """Server time, local time until the first answer; steps of the local wall clock do not matter."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._begun = time.time() - monotonic()
        self._low = float("-inf")
        self._high = float("inf")

    def now(self) -> datetime:
        """The time at the server."""
        known = self._high < float("inf")
        offset = (self._low + self._high) / 2 if known else self._begun
        return datetime.fromtimestamp(self._monotonic() + offset, UTC)

    def started(self) -> float:
        """The moment a request is sent; pass it to `observe`."""
        return self._monotonic()

    def observe(self, date: str | None, sent: float) -> None:
        """Learn from the Date header of an answer; one that is missing or unreadable says nothing."""
        try:
            stamp = parsedate_to_datetime(date or "").timestamp()
        except ValueError:
            return
        low, high = stamp - self._monotonic(), stamp + RESOLUTION_SECONDS - sent
        self._low, self._high = max(self._low, low), min(self._high, high)
        if self._low > self._high:  # the server's clock was set, or another server answers
            self._low, self._high = low, high
