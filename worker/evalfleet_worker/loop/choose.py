"""Which unit next. Pure.

Longest predicted first, in size classes of a factor of two. Within a class a worker walks through neighbouring units;
it starts, and starts anew whenever it meets the units of another worker, well inside a free run: a worker that only
skipped what is taken would follow the other one step behind and lose the race for every unit.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from math import floor, log2

from evalfleet_worker.requests import Unit

Taken = bytearray
"""One byte per unit: whether it is finished or somebody's."""


def size_classes(units: Sequence[Unit]) -> list[list[int]]:
    """Unit indices by size class, the longest first; ascending within a class."""
    classes: dict[int, list[int]] = {}
    for unit in units:
        classes.setdefault(_size_class(unit), []).append(unit.index)
    return [classes[size] for size in sorted(classes, reverse=True)]


def claim_order(classes: Sequence[Sequence[int]], seed: str, taken: Taken, within: range | None = None) -> list[int]:
    """Free units in the order in which a worker tries them.

    Args:
        classes: unit indices by size class.
        seed: decides where each class starts.
        taken: what is not free.
        within: units among which a class starts if it has free ones there; None = anywhere.
    """
    return [index for indices in classes for index in _rotated(indices, seed, taken, within)]


def _size_class(unit: Unit) -> int:
    return floor(log2(max(unit.predicted_seconds, 1e-6)))


def _rotated(indices: Sequence[int], seed: str, taken: Taken, within: range | None) -> list[int]:
    """The free ones, from a start in the middle half of a free run; runs are chosen by their length."""
    free = [index for index in indices if not taken[index]]
    if not free:
        return []
    pool = [index for index in free if index in within] if within else free
    start = bisect_left(free, _start(pool or free, seed))
    return free[start:] + free[:start]


def _start(free: Sequence[int], seed: str) -> int:
    digest = hashlib.blake2b(seed.encode(), digest_size=16).digest()
    first, last = _run_around(free, int.from_bytes(digest[:8], "big") % len(free))
    length = last - first + 1
    return free[first + length // 4 + int.from_bytes(digest[8:], "big") % max(1, length // 2)]


def _run_around(free: Sequence[int], member: int) -> tuple[int, int]:
    """Places in an ascending list of the first and last of the run of neighbours around a member."""
    low = high = member
    while low > 0 and free[low - 1] == free[low] - 1:
        low -= 1
    while high + 1 < len(free) and free[high + 1] == free[high] + 1:
        high += 1
    return low, high
