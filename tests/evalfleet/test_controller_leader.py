"""Leader election between candidates that share nothing but the Lease; clocks are virtual."""

import asyncio
from typing import Any

from evalfleet.controller.leader import Elector, LeaseTiming

TIMING = LeaseTiming(lease_seconds=15, renew_deadline_seconds=0.05, retry_seconds=0.01)


class Lease:
    """A Lease with the API server's conflicts."""

    def __init__(self) -> None:
        self.body: dict[str, Any] | None = None
        self.version = 0
        self.broken = False

    async def read_lease(self) -> dict[str, Any] | None:
        if self.broken:
            raise OSError("cut")
        return self.body

    async def write_lease(self, lease: dict[str, Any], create: bool) -> dict[str, Any] | None:
        if self.broken:
            raise OSError("cut")
        if create != (self.body is None) or lease["metadata"].get("resourceVersion") not in (None, str(self.version)):
            return None
        self.version += 1
        self.body = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        return self.body


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def candidate(lease: Lease, name: str, clock: Clock) -> Elector:
    return Elector(lease, "evalfleet-operator", name, TIMING, clock)


async def test_the_second_candidate_waits_for_the_lease_on_its_own_clock() -> None:
    lease, clock = Lease(), Clock()
    first, second = candidate(lease, "first", clock), candidate(lease, "second", clock)
    assert await first._safely_try()
    assert not await second._safely_try()
    clock.now = 14.9
    assert not await second._safely_try()
    clock.now = 15.1
    assert await second._safely_try()
    assert lease.body is not None
    assert lease.body["spec"]["leaseTransitions"] == 1
    assert not await first._safely_try(), "the old leader is told at its next renewal"


async def test_a_successor_of_a_leader_that_vanished_holds_the_lease_as_its_own() -> None:
    lease, clock = Lease(), Clock()
    first, second = candidate(lease, "first", clock), candidate(lease, "second", clock)
    await first.acquire()
    assert not await second._safely_try()
    clock.now = 15.1
    await second.acquire()
    holding = asyncio.create_task(second.hold())
    await asyncio.sleep(5 * TIMING.retry_seconds)
    assert not holding.done()
    holding.cancel()


async def test_a_renewing_leader_keeps_the_lease() -> None:
    lease, clock = Lease(), Clock()
    first, second = candidate(lease, "first", clock), candidate(lease, "second", clock)
    await first.acquire()
    for _ in range(10):
        clock.now += 10
        assert await first._safely_try()
        assert not await second._safely_try()


async def test_a_released_lease_is_free_at_once() -> None:
    lease, clock = Lease(), Clock()
    first, second = candidate(lease, "first", clock), candidate(lease, "second", clock)
    await first.acquire()
    await first.release()
    assert await second._safely_try()


async def test_a_leader_that_cannot_renew_gives_up() -> None:
    import time

    lease = Lease()
    leader = Elector(lease, "evalfleet-operator", "first", TIMING, time.monotonic)
    await leader.acquire()
    lease.broken = True
    await leader.hold()


async def test_a_leader_that_sees_another_holder_stops_at_once() -> None:
    lease, clock = Lease(), Clock()
    timing = LeaseTiming(lease_seconds=15, renew_deadline_seconds=1000, retry_seconds=0.01)
    leader = Elector(lease, "evalfleet-operator", "first", timing, clock)
    await leader.acquire()
    clock.now = 100
    second = candidate(lease, "second", clock)
    await second._safely_try()
    clock.now = 116
    assert await second._safely_try()
    await asyncio.wait_for(leader.hold(), 30)


async def test_after_a_long_pause_the_leader_knows_that_its_lease_may_be_anothers() -> None:
    lease, clock = Lease(), Clock()
    timing = LeaseTiming(lease_seconds=15, renew_deadline_seconds=10, retry_seconds=0.01)
    leader = Elector(lease, "evalfleet-operator", "first", timing, clock)
    await leader.acquire()
    assert leader.holds()
    clock.now = 10.1  # a stopped process, or a first listing that took so long
    lease.broken = True
    assert not leader.holds()
    await asyncio.wait_for(leader.hold(), 30)
