"""Leader election on a coordination.k8s.io Lease, with local observation times (no clock agreement is needed).

As client-go: a candidate takes over when it has seen the same record for the whole lease duration on its own monotonic
clock; every write carries the resourceVersion it was decided on, so that of two candidates one loses with a conflict.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from evalfleet import limits

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Durations [s]: how long a lease holds, when renewing is given up, how often it is tried."""

    lease_seconds: float = limits.LEASE_SECONDS
    renew_deadline_seconds: float = limits.LEASE_RENEW_SECONDS
    retry_seconds: float = limits.LEASE_RETRY_SECONDS


class LeaseApi(Protocol):
    """What the elector needs of the API server."""

    async def read_lease(self) -> dict[str, Any] | None:
        """The lease, or None when there is none."""
        ...

    async def write_lease(self, lease: dict[str, Any], create: bool) -> dict[str, Any] | None:
        """Create or replace (at its resourceVersion); None on a conflict."""
        ...


@dataclass
class Elector:
    """Acquires the lease, keeps it, and says when it is lost."""

    api: LeaseApi
    name: str
    identity: str
    timing: LeaseTiming
    clock: Callable[[], float]
    answered_at: float | None = None
    """When the API server last answered, by `clock`."""
    renewed_at: float = float("-inf")
    """When the last successful write of the lease was sent, by `clock`."""
    _seen_record: tuple[str, str] = ("", "")
    _seen_at: float = 0.0

    async def acquire(self) -> None:
        """Return when this process leads."""
        while not await self._safely_try():
            await asyncio.sleep(self.timing.retry_seconds)
        log.info("leading as %s", self.identity)

    async def hold(self) -> None:
        """Renew until it fails for `renew_deadline_seconds`, or another holds it; returning means that it is lost."""
        while self.holds() and self._seen_record[0] in ("", self.identity):
            await asyncio.sleep(self.timing.retry_seconds)
            await self._safely_try()

    def holds(self) -> bool:
        """Whether nobody else can lead yet: also right after a pause of this process that no task noticed."""
        return self.clock() - self.renewed_at < self.timing.renew_deadline_seconds

    async def release(self) -> None:
        """Give the lease back so that another candidate need not wait."""
        lease = await self.api.read_lease()
        if lease is not None and lease["spec"].get("holderIdentity") == self.identity:
            spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            await self.api.write_lease({**lease, "spec": spec}, create=False)

    async def _safely_try(self) -> bool:
        sent = self.clock()
        try:
            leads = await asyncio.wait_for(self._try(), self.timing.renew_deadline_seconds / 2)  # as client-go
        except (OSError, TimeoutError, RuntimeError) as error:
            log.warning("lease: %s", str(error) or type(error).__name__)
            return False
        self.answered_at = self.clock()
        if leads:
            self.renewed_at = sent
        return leads

    async def _try(self) -> bool:
        lease = await self.api.read_lease()
        if lease is None:
            return await self._write(None)
        spec = lease.get("spec") or {}
        holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        self._see(holder, renewed)
        duration = float(spec.get("leaseDurationSeconds") or self.timing.lease_seconds)
        if holder not in ("", self.identity) and self.clock() - self._seen_at < duration:
            return False
        return await self._write(lease)

    async def _write(self, before: dict[str, Any] | None) -> bool:
        """Create or renew it in our name; what we have written is what we have seen."""
        written = await self.api.write_lease(self._lease(before), create=before is None)
        if written is not None:
            self._see(self.identity, str(written["spec"].get("renewTime") or ""))
        return written is not None

    def _see(self, holder: str, renewed: str) -> None:
        if (holder, renewed) != self._seen_record:
            self._seen_record, self._seen_at = (holder, renewed), self.clock()

    def _lease(self, before: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = dict((before or {}).get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec |= {
                "acquireTime": now,
                "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (before is not None),
            }
        spec |= {
            "holderIdentity": self.identity,
            "renewTime": now,
            "leaseDurationSeconds": int(self.timing.lease_seconds),
        }
        metadata = (before or {}).get("metadata") or {"name": self.name}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
