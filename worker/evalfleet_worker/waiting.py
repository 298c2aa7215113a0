"""What does not answer is said after ten seconds: a process that is silent looks dead."""

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

AFTER_SECONDS = 10.0


class _Waits:
    """Calls in flight: whom they wait for, and since when. One thread looks at them; it starts with the first."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, float]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def begin(self, whom: str) -> int:
        number = next(self._numbers)
        self._calls[number] = (whom, time.monotonic())
        if self._watcher is None:
            self._start()
        return number

    def end(self, number: int) -> None:
        self._calls.pop(number, None)

    def _start(self) -> None:
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, daemon=True, name="waiting")
                self._watcher.start()

    def _watch(self) -> None:
        told: dict[str, float] = {}
        while True:
            time.sleep(AFTER_SECONDS / 10)
            now = time.monotonic()
            for whom, since in self._longest().items():
                if now - max(since, told.get(whom, 0.0)) >= AFTER_SECONDS:
                    told[whom] = now
                    log.warning("waiting for %s since %.0f s", whom, now - since)

    def _longest(self) -> dict[str, float]:
        """Since when each is waited for, by the call that waits longest."""
        longest: dict[str, float] = {}
        for whom, since in list(self._calls.values()):
            longest[whom] = min(since, longest.get(whom, since))
        return longest


_waits = _Waits()


@contextmanager
def waiting_for(whom: str) -> Iterator[None]:
    """While this is entered for long, a line of the log names whom it waits for, every ten seconds."""
    waits = _waits
    number = waits.begin(whom)
    try:
        yield
    finally:
        waits.end(number)


def tell_of_slow_hub() -> None:
    """From now on requests of huggingface_hub that are not answered are told in the log."""
    from huggingface_hub import get_session

    client: Any = get_session()
    send = client.send
    if getattr(send, "tells", False):
        return

    def telling(request: Any, **options: Any) -> Any:
        with waiting_for(request.url.netloc.decode()):
            return send(request, **options)

    telling.tells = True  # type: ignore[attr-defined]
    client.send = telling
