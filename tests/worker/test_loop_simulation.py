"""The claim protocol under thousands of random schedules of crashes, pauses, zombies and a failing store."""

from typing import Any

import pytest
from protocol_simulation import World, answers, merged

SEEDS = 300


def run_schedule(seed: int, poison: frozenset[int] = frozenset(), **faults: Any) -> World:
    world = World(seed, poison=poison, **faults)
    world.run()
    world.calm()
    return world


def assert_exactly_once(world: World) -> None:
    parts = {
        path: count for path, count in world.objects.created.items() if "/units/" in path and path.endswith(".parquet")
    }
    assert set(parts.values()) <= {1}
    expected = [answer for unit in world.plan.units if unit.index not in world.poison for answer in answers(unit)]
    assert merged(world.store, world.plan) == expected
    assert set(world.store.failed_units(world.plan)) == set(world.poison)


def test_every_unit_is_committed_exactly_once_whatever_happens() -> None:
    crashes = 0
    for seed in range(SEEDS):
        world = run_schedule(seed)
        assert_exactly_once(world)
        crashes += world.crashes
    assert crashes > SEEDS / 10, "the chaos was too mild to prove anything"


def test_a_poisoned_unit_fails_for_good_and_harms_no_other() -> None:
    for seed in range(60):
        world = run_schedule(seed, poison=frozenset({3, 7}))
        assert_exactly_once(world)


def test_sick_workers_end_and_cost_no_unit() -> None:
    broken = 0
    for seed in range(100):
        world = run_schedule(seed, sick_workers=2)
        assert_exactly_once(world)
        assert world.store.ended_evaluations() == {}
        broken += world.broken
    assert broken > 50, "the sick ones were let live"


def test_units_that_fail_everywhere_end_their_evaluation_and_no_other() -> None:
    for seed in range(100):
        world = run_schedule(seed, hopeless=frozenset({8, 10}), second_from=7, sick_workers=seed % 3)
        assert list(world.store.ended_evaluations()) == ["second"]
        assert world.store.failed_units(world.plan) == {}
        rows = [answer.row for answer in merged(world.store, world.plan)]
        assert len(rows) == len(set(rows))
        assert set(range(7 * 3)) <= set(rows), "the other evaluation is complete"
        assert not set(rows) & {24, 25, 26, 30, 31, 32}
        assert world.store.units_done(world.plan) == set(range(world.units)), "nothing is left to do"


def test_a_result_always_wins_over_a_failure() -> None:
    world = World(1, crash_rate=0.0, error_rate=0.0)
    first, second = world.spawn().coordinator, world.spawn().coordinator
    claim = first.next()
    from evalfleet_worker.store.run_store import FailureRecord

    world.store.give_up(FailureRecord(claim.unit.index, "x", "x", "EngineCrashed", "x"))
    first.commit(claim, answers(claim.unit), 1.0, {})
    second.refresh()
    assert claim.unit.index in second.done
    assert world.store.failed_units(world.plan) == {}


@pytest.mark.slow
def test_ten_thousand_schedules_lose_and_duplicate_nothing() -> None:
    for seed in range(10_000):
        assert_exactly_once(run_schedule(1_000 + seed))
