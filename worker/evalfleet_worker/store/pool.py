"""Many reads of the store at once, in order, with a bounded number in flight and in memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

READERS = 16
"""Reads in flight: a read of a small object is waiting, not work."""

T = TypeVar("T")
R = TypeVar("R")


def pooled(read: Callable[[T], R], items: Iterable[T], readers: int = READERS) -> Iterator[R]:
    """`map(read, items)` by threads; at most two results per thread wait to be taken.

    Raises:
        Exception: of the first read that failed, in the order of the items; what is in flight then is waited for.
    """
    with ThreadPoolExecutor(readers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(read, item))
            if len(waiting) >= 2 * readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
