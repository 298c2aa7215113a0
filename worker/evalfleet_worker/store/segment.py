"""What a segment's listing says about its units. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from evalfleet_worker.store.objects import Entry


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
        folder, _, name = entry.path.rpartition("/")
        number, _, kind = name.partition(".")
        if not (number.isdecimal() and kind):
            continue
        unit, is_claim = int(number), folder.endswith("/claims")
        if is_claim and kind.isdecimal():
            epochs.setdefault(unit, {})[int(kind)] = entry.stamp
        elif is_claim and kind == "backup":
            listing.backups.add(unit)
        elif is_claim and (epoch := kind.removesuffix(".free")) != kind and epoch.isdecimal():
            freed.setdefault(unit, set()).add(int(epoch))
        elif not is_claim and kind == "parquet":
            listing.done.add(unit)
        elif not is_claim and kind == "failed.json":
            listing.failed.add(unit)
    listing.failed -= listing.done
    for unit, stamps in epochs.items():
        newest, given_up = max(stamps), freed.get(unit, set())
        losses = len(stamps.keys() - given_up) - (newest not in given_up)
        listing.claims[unit] = ClaimSeen(newest, stamps[newest], newest in given_up, losses)
    return listing
