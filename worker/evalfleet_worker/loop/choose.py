"""Which unit next. Pure.

Longest predicted first, in size classes of a factor of two; within a class every worker starts at its own offset, so
that a hundred workers rarely reach for the same unit.
"""

import hashlib
from collections.abc import Iterable, Sequence
from math import floor, log2

from evalfleet_worker.requests import Unit


def claim_order(units: Sequence[Unit], worker: str) -> list[int]:
    """Unit indices in the order in which `worker` tries them."""
    classes: dict[int, list[int]] = {}
    for unit in units:
        classes.setdefault(_size_class(unit), []).append(unit.index)
    return [index for size in sorted(classes, reverse=True) for index in _rotated(classes[size], worker)]


def first_free(order: Iterable[int], taken: set[int]) -> int | None:
    """The first unit of an order that is not taken."""
    return next((index for index in order if index not in taken), None)


def _size_class(unit: Unit) -> int:
    return floor(log2(max(unit.predicted_seconds, 1e-6)))


def _rotated(indices: list[int], worker: str) -> list[int]:
    digest = hashlib.blake2b(worker.encode(), digest_size=8).digest()
    offset = int.from_bytes(digest, "big") % len(indices)
    return indices[offset:] + indices[:offset]
