"""Liveness and readiness of an operator process: why not, or nothing when all is well. Pure.

Alive: no reconciliation has run for longer than any call may take; a restart helps. An API server that is away is no
reason to die: nothing here would be better after a restart. Ready: a leader has listed everything and watches it; a
standby has lately been answered about the Lease, so that it can take over.
"""

from dataclasses import dataclass

from evalfleet import limits


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is known of a process.

    Attributes:
        leading: whether it leads (always, without leader election).
        watching: whether its watches run.
        lease_seconds: since the API server last answered about the Lease; None = never, or no leader election.
        listed_seconds: since everything was last listed; None = not yet.
        resync_seconds: how often everything is listed.
        busy_seconds: how long the longest reconciliation has been running; 0 = none runs.
        stuck_seconds: how long one may.
    """

    leading: bool
    watching: bool
    lease_seconds: float | None
    listed_seconds: float | None
    resync_seconds: float
    busy_seconds: float
    stuck_seconds: float


def why_not_alive(vitals: Vitals) -> str:
    """Why a restart would help; empty when it would not."""
    if vitals.busy_seconds > vitals.stuck_seconds:
        return f"stuck: a reconciliation has been running for {vitals.busy_seconds:.0f} s"
    return ""


def why_not_ready(vitals: Vitals) -> str:
    """Why this process cannot do its part; empty when it can."""
    return _leader_lacks(vitals) if vitals.leading else _standby_lacks(vitals)


def _standby_lacks(vitals: Vitals) -> str:
    if vitals.lease_seconds is None:
        return "the API server has not answered about the Lease yet"
    if vitals.lease_seconds > limits.LEASE_SECONDS:
        return f"the API server has not answered about the Lease for {vitals.lease_seconds:.0f} s"
    return ""


def _leader_lacks(vitals: Vitals) -> str:
    if vitals.listed_seconds is None:
        return "objects are being listed for the first time"
    if not vitals.watching:
        return "the watches do not run"
    if vitals.listed_seconds > limits.MISSED_LISTINGS * vitals.resync_seconds:
        return f"the API server has given no listing for {vitals.listed_seconds:.0f} s"
    return ""
