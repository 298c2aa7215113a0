"""What a segment's listing says about its units. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from evalfleet_worker.store.objects import Entry

_CLAIM = re.compile(r"/claims/(\d+)\.(\d+)$")
_FREED = re.compile(r"/claims/(\d+)\.(\d+)\.free$")
_BACKUP = re.compile(r"/claims/(\d+)\.backup$")
_PART = re.compile(r"/units/(\d+)\.parquet$")
_FAILED = re.compile(r"/units/(\d+)\.failed\.json$")


@dataclass(frozen=True, slots=True)
class ClaimSeen:
    """The newest claim of a unit: its epoch, its modification stamp, whether it was given up."""

    epoch: int
    stamp: str
    freed: bool
    losses: int
    """Earlier epochs that nobody gave up: silent losses."""


@dataclass(slots=True)
class Listing:
    """Units of one segment by state."""

    done: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    backups: set[int] = field(default_factory=set)
    claims: dict[int, ClaimSeen] = field(default_factory=dict)


def read_listing(entries: Iterable[Entry]) -> Listing:
    """Fold a segment's objects; unknown names (leftovers of killed writes) are ignored."""
    listing = Listing()
    epochs: dict[int, dict[int, str]] = {}
    freed: dict[int, set[int]] = {}
    for entry in entries:
        if match := _CLAIM.search(entry.path):
            epochs.setdefault(int(match[1]), {})[int(match[2])] = entry.stamp
        elif match := _PART.search(entry.path):
            listing.done.add(int(match[1]))
        elif match := _FREED.search(entry.path):
            freed.setdefault(int(match[1]), set()).add(int(match[2]))
        elif match := _BACKUP.search(entry.path):
            listing.backups.add(int(match[1]))
        elif match := _FAILED.search(entry.path):
            listing.failed.add(int(match[1]))
    listing.failed -= listing.done
    for unit, stamps in epochs.items():
        epoch, given_up = max(stamps), freed.get(unit, set())
        losses = len(stamps.keys() - given_up) - (epoch not in given_up)
        listing.claims[unit] = ClaimSeen(epoch, stamps[epoch], epoch in given_up, losses)
    return listing
