"""Single situations of the claim protocol, produced step by step on the production Coordinator."""

import pytest
from protocol_simulation import World, answers, merged

from evalfleet_worker.loop.coordinator import Claim, Coordinator, Done, Wait
from evalfleet_worker.loop.settings import ClaimSettings
from evalfleet_worker.protocol import FailureReason
from evalfleet_worker.tables import write_answers


def calm_world(units: int = 12, settings: ClaimSettings | None = None) -> World:
    return World(1, units=units, crash_rate=0.0, error_rate=0.0, settings=settings or ClaimSettings())


def claimed(coordinator: Coordinator) -> Claim:
    step = coordinator.next()
    assert isinstance(step, Claim)
    return step


def score(coordinator: Coordinator, claim: Claim) -> bool:
    return coordinator.commit(claim, answers(claim.unit), 5.0, {})


def run_alone(coordinator: Coordinator) -> int:
    """Score what is left; returns how many units that were."""
    units = 0
    while isinstance(step := coordinator.next(), Claim):
        score(coordinator, step)
        units += 1
    return units


def lose(world: World, index: int, times: int) -> None:
    """Claims of the unit by workers of which nobody hears again."""
    for epoch in range(times):
        world.store.objects.create(world.store.layout.claim(index, epoch), b"{}")


def test_a_worker_that_slept_through_the_end_of_its_run_leaves_instead_of_scoring_it_again() -> None:
    world = calm_world()
    sleeper, other = world.spawn().coordinator, world.spawn().coordinator
    claim = claimed(sleeper)
    run_alone(other)
    sleeper.release(claim)
    run_alone(other)
    world.store.publish_results({"results.json": b"{}"}, {"outcome": "Complete"})
    world.now += 1000.0
    assert isinstance(sleeper.next(), Done)


def test_a_commit_over_a_damaged_part_counts() -> None:
    world = calm_world(units=1)
    coordinator = world.spawn().coordinator
    claim = claimed(coordinator)
    torn = write_answers(answers(claim.unit), {"owner": "gone"})[:60]
    world.store.objects.create(world.store.layout.part(0), torn)
    assert score(coordinator, claim)
    assert merged(world.store, world.plan) == answers(claim.unit)


def test_a_unit_whose_part_is_put_aside_is_executed_again_by_a_worker_that_saw_it_done() -> None:
    world = calm_world(units=2)
    first, second = world.spawn().coordinator, world.spawn().coordinator
    done, waiting = claimed(first), claimed(second)
    score(first, done)
    assert isinstance(first.next(), Wait)
    path = world.store.layout.part(done.unit.index)
    world.objects.content[path] = world.objects.content[path][:60]
    assert world.store.read_answers(world.plan, done.unit) is None
    score(second, waiting)
    world.now += 100.0
    for _ in range(30):  # the claim of the put-aside unit lives for a lease
        world.now += 2.0
        if isinstance(step := first.next(), Claim):
            score(first, step)
            break
    assert [answer.row for answer in merged(world.store, world.plan)] == list(range(6))


def test_a_claim_whose_response_was_lost_is_kept_and_executed() -> None:
    world = calm_world(units=40)
    coordinator = world.spawn().coordinator
    create = world.objects.create

    def effect_without_response(path: str, content: bytes) -> bool:
        create(path, content)
        world.objects.create = create  # type: ignore[method-assign]
        raise TimeoutError

    world.objects.create = effect_without_response  # type: ignore[method-assign]
    with pytest.raises(TimeoutError):
        coordinator.next()
    claims = [path for path in world.objects.content if "/claims/" in path]
    claim = claimed(coordinator)
    assert claims == [world.store.layout.claim(claim.unit.index, claim.epoch)]


def test_every_worker_knows_how_far_the_run_is_while_all_have_enough_to_do() -> None:
    world = calm_world(units=200)
    workers = [world.spawn().coordinator for _ in range(4)]
    for _ in range(25):
        for coordinator in workers:
            score(coordinator, claimed(coordinator))
        world.now += 5.0
    assert all(len(coordinator.done) >= 80 for coordinator in workers)
    assert sum(len(coordinator.committed) for coordinator in workers) == 100


def test_a_unit_with_which_workers_were_lost_is_executed_alone() -> None:
    world = calm_world(units=3)
    lose(world, 0, times=7)
    coordinator = world.spawn().coordinator
    first, second = claimed(coordinator), claimed(coordinator)
    assert {first.unit.index, second.unit.index} == {1, 2}
    world.now += 40.0
    assert isinstance(coordinator.next(), Wait), "others are held"
    score(coordinator, first)
    score(coordinator, second)
    suspect = wait_for_claim(world, coordinator)
    assert (suspect.unit.index, suspect.epoch) == (0, 7)
    assert isinstance(coordinator.next(), Wait), "nothing is claimed beside a suspect"
    assert score(coordinator, suspect)


def test_a_unit_that_is_lost_alone_twice_is_given_up() -> None:
    world = calm_world(units=1)
    lose(world, 0, times=8)
    coordinator = world.spawn().coordinator
    for _ in range(30):
        world.now += 2.0
        if isinstance(coordinator.next(), Done):
            break
    failed = world.store.failed_units(world.plan)
    assert failed[0].reason == FailureReason.ENGINE_CRASHED
    assert "lost 8 times" in failed[0].message


def wait_for_claim(world: World, coordinator: Coordinator) -> Claim:
    """The next claim; time passes as a waiting worker lets it."""
    for _ in range(60):
        step = coordinator.next()
        if isinstance(step, Claim):
            return step
        assert isinstance(step, Wait)
        world.now += step.seconds
    raise AssertionError("nothing was claimed within the lease")
