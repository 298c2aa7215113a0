"""Which unit next. Pure.

Longest predicted first, in size classes of a factor of two. Within a class a worker walks through neighbouring units;
it starts, and starts anew whenever it meets the units of another worker, well inside a free run: a worker that only
skipped what is taken would follow the other one step behind and lose the race for every unit.
"""

import hashlib
from collections.abc import Iterable, Sequence, Set
from math import floor, log2

from evalfleet_worker.requests import Unit


def claim_order(units: Sequence[Unit], seed: str, taken: Set[int] = frozenset()) -> list[int]:
    """Unit indices in the order in which a worker tries them; `seed` decides where each size class starts."""
    classes: dict[int, list[int]] = {}
    for unit in units:
        classes.setdefault(_size_class(unit), []).append(unit.index)
    return [index for size in sorted(classes, reverse=True) for index in _rotated(classes[size], seed, taken)]


def first_free(order: Iterable[int], taken: set[int]) -> int | None:
    """The first unit of an order that is not taken."""
    return next((index for index in order if index not in taken), None)


def _size_class(unit: Unit) -> int:
    return floor(log2(max(unit.predicted_seconds, 1e-6)))


def _rotated(indices: list[int], seed: str, taken: Set[int]) -> list[int]:
    """Start in the middle half of a free run; runs are chosen by their length."""
    free = [position for position, index in enumerate(indices) if index not in taken]
    if not free:
        return indices
    digest = hashlib.blake2b(seed.encode(), digest_size=16).digest()
    first, last = _run_around(free, int.from_bytes(digest[:8], "big") % len(free))
    length = last - first + 1
    start = first + length // 4 + int.from_bytes(digest[8:], "big") % max(1, length // 2)
    return indices[start:] + indices[:start]


def _run_around(free: list[int], member: int) -> tuple[int, int]:
    """First and last position of the run of neighbours around a member of an ascending list."""
    low = high = member
    while low > 0 and free[low - 1] == free[low] - 1:
        low -= 1
    while high + 1 < len(free) and free[high + 1] == free[high] + 1:
        high += 1
    return free[low], free[high]
