"""The work queue: one key at a time, nothing lost, back-off that ends with success."""

import asyncio

import pytest

from evalfleet import limits
from evalfleet.controller.queue import WorkQueue


async def test_a_key_waits_once_however_often_it_is_added() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(5):
        queue.add("a")
    assert len(queue) == 1
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_key_added_while_it_is_processed_comes_back_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    assert len(queue) == 0, "not to a second worker meanwhile"
    queue.done(key)
    assert await queue.get() == "a"


async def test_the_earliest_of_several_delays_wins() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 3600)
    queue.add_after("a", 0.01)
    queue.add_after("a", 3600)
    assert await asyncio.wait_for(queue.get(), 60) == "a"


async def test_failures_back_off_and_success_forgets_them() -> None:
    queue: WorkQueue[str] = WorkQueue(base_delay_seconds=1.0)
    assert [queue.retry("a") for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]
    assert max(queue.retry("b") for _ in range(40)) == pytest.approx(limits.RETRY_MOST_SECONDS)
    queue.forget("a")
    assert queue.retry("a") == 1.0


def test_an_urgent_key_overtakes_those_that_wait() -> None:
    async def scenario() -> list[str]:
        queue: WorkQueue[str] = WorkQueue(urgent=lambda key: key.startswith("policy"))
        for key in ("a", "b", "policy", "c"):
            queue.add(key)
        return [await queue.get() for _ in range(4)]

    assert asyncio.run(scenario()) == ["policy", "a", "b", "c"]
