"""Which unit a worker tries next."""

from evalfleet_worker.loop.choose import claim_order, size_classes
from evalfleet_worker.requests import Unit


def classes(*seconds: float) -> list[list[int]]:
    return size_classes([Unit(index, index, 1, 1, predicted) for index, predicted in enumerate(seconds)])


def free_but(count: int, taken: set[int]) -> bytearray:
    return bytearray(index in taken for index in range(count))


def test_every_unit_is_tried_longest_class_first() -> None:
    order = claim_order(classes(2.0, 9.0, 2.5, 8.5, 4.5), "worker", bytearray(5))
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert (set(order[:2]), order[2], set(order[3:])) == ({1, 3}, 4, {0, 2})


def test_workers_start_at_different_places_and_walk_through_neighbours() -> None:
    orders = [claim_order(classes(*[5.0] * 100), f"worker-{number}", bytearray(100)) for number in range(20)]
    assert len({order[0] for order in orders}) > 10
    assert all(order[1] == (order[0] + 1) % 100 for order in orders)


def test_a_new_start_lies_inside_a_free_run_away_from_its_end() -> None:
    taken = free_but(100, set(range(100)) - set(range(40, 80)))
    starts = {claim_order(classes(*[5.0] * 100), f"seed-{seed}", taken)[0] for seed in range(50)}
    assert starts <= set(range(50, 70))


def test_a_start_lies_in_the_wanted_segment_while_something_is_free_there() -> None:
    some = free_but(100, set(range(20, 28)))
    starts = {claim_order(classes(*[5.0] * 100), f"seed-{seed}", some, range(20, 30))[0] for seed in range(50)}
    assert starts <= {28, 29}
    none = free_but(100, set(range(20, 30)))
    order = claim_order(classes(*[5.0] * 100), "seed", none, range(20, 30))
    assert sorted(order) == [*range(20), *range(30, 100)]


def test_nothing_is_chosen_when_all_is_taken() -> None:
    assert claim_order(classes(1.0, 1.0), "worker", bytearray([1, 1])) == []
