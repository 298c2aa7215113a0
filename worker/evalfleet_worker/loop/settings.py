"""Durations of the claim protocol."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClaimSettings:
    """How long claims hold [s] and when a unit is given up.

    Attributes:
        heartbeat_seconds: how often an owner rewrites its claim.
        lease_seconds: an unchanged claim is taken over after this long on the observer's clock.
        poll_seconds: how often a waiting worker lists.
        glance_seconds: how often a busy worker lists one segment, to know how far the run is.
        backup_seconds: a claim is a straggler when it is older than this and than twice the mean unit.
        distinct_failures: failure records of distinct owners that end a unit.
        silent_losses: epochs lost without a word before a unit is suspected; two more executions, alone, then it ends.
        store_patience_seconds: an unreachable store is waited for this long; then the worker leaves (exit 75).
    """

    heartbeat_seconds: float = 10.0
    lease_seconds: float = 30.0
    poll_seconds: float = 2.0
    glance_seconds: float = 10.0
    backup_seconds: float = 15.0
    distinct_failures: int = 3
    silent_losses: int = 6
    store_patience_seconds: float = 300.0
