"""A de-duplicating, rate-limited work queue for asyncio, after client-go's workqueue.

A key is in the queue at most once; a key that is added while it is being processed is processed again afterwards; a key
that failed comes back with exponential back-off until it is forgotten.
"""

import asyncio
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from evalfleet import limits

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """Keys to reconcile, each at most once at a time: urgent ones first, then as they came."""

    def __init__(
        self, base_delay_seconds: float = limits.RETRY_SECONDS, urgent: Callable[[Key], bool] = lambda _: False
    ) -> None:
        self._base_delay_seconds = base_delay_seconds
        self._urgent = urgent
        self._arrivals = itertools.count()
        self._ready: asyncio.PriorityQueue[tuple[bool, int, Key]] = asyncio.PriorityQueue()
        self._queued: set[Key] = set()
        self._processing: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: Key) -> None:
        """Queue a key now."""
        if key in self._processing:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait((not self._urgent(key), next(self._arrivals), key))

    def add_after(self, key: Key, seconds: float) -> None:
        """Queue a key after a delay; the earliest of several delays wins."""
        loop = asyncio.get_running_loop()
        due = loop.time() + max(0.0, seconds)
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= due:
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = loop.call_at(due, self._fire, key)

    def retry(self, key: Key, at_least_seconds: float = 0.0) -> float:
        """Queue a key that failed; returns the delay [s], doubled at every failure in a row."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = min(
            limits.RETRY_MOST_SECONDS, max(at_least_seconds, self._base_delay_seconds * 2.0 ** min(failures, 32))
        )
        self.add_after(key, delay)
        return delay

    def forget(self, key: Key) -> None:
        """End a key's back-off: it succeeded."""
        self._failures.pop(key, None)

    async def get(self) -> Key:
        """The next key; call `done` when it is processed."""
        _, _, key = await self._ready.get()
        self._queued.discard(key)
        self._processing.add(key)
        return key

    def done(self, key: Key) -> None:
        """A key is processed; it comes back if it was added meanwhile."""
        self._processing.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _fire(self, key: Key) -> None:
        del self._timers[key]
        self.add(key)
