"""How many workers one machine runs and on what: a table of machines."""

import pytest

from evalfleet.local.run.layout import Machine, Seat, Wish, seats

GIB = 1 << 30
LAPTOP = Machine((), cores=8, sockets=1, memory_bytes=16 * GIB)
SERVER = Machine((), cores=128, sockets=2, memory_bytes=512 * GIB)
TIGHT = Machine((), cores=128, sockets=4, memory_bytes=40 * GIB)
ONE_GPU = Machine(("cuda:0",), cores=12, sockets=1, memory_bytes=64 * GIB)
EIGHT_GPUS = Machine(tuple(f"cuda:{i}" for i in range(8)), cores=192, sockets=2, memory_bytes=2048 * GIB)


@pytest.mark.parametrize(
    ("machine", "model_gib", "wish", "expected"),
    [
        (LAPTOP, 1, Wish(), [("cpu", 8)]),
        (LAPTOP, 100, Wish(), [("cpu", 8)]),
        (LAPTOP, 1, Wish(workers=3), [("cpu", 2)] * 3),
        (LAPTOP, 1, Wish(workers=16), [("cpu", 1)] * 16),
        (LAPTOP, 1, Wish(workers=3, most=2), [("cpu", 4)] * 2),
        (SERVER, 30, Wish(), [("cpu", 64)] * 2),
        (SERVER, 30, Wish(most=1), [("cpu", 128)]),
        (SERVER, 0, Wish(), [("cpu", 64)] * 2),
        (TIGHT, 15, Wish(), [("cpu", 64)] * 2),
        (TIGHT, 39, Wish(), [("cpu", 128)]),
        (ONE_GPU, 30, Wish(), [("cuda:0", 12)]),
        (ONE_GPU, 30, Wish(workers=4), [("cuda:0", 12)]),
        (ONE_GPU, 30, Wish("cpu"), [("cpu", 12)]),
        (EIGHT_GPUS, 30, Wish(), [(f"cuda:{i}", 24) for i in range(8)]),
        (EIGHT_GPUS, 30, Wish("cuda"), [(f"cuda:{i}", 24) for i in range(8)]),
        (EIGHT_GPUS, 30, Wish("cuda:5"), [("cuda:5", 192)]),
        (EIGHT_GPUS, 30, Wish(workers=2), [("cuda:0", 96), ("cuda:1", 96)]),
        (EIGHT_GPUS, 30, Wish(most=3), [(f"cuda:{i}", 64) for i in range(3)]),
        (EIGHT_GPUS, 30, Wish("cpu"), [("cpu", 96)] * 2),
    ],
)
def test_every_worker_has_a_place_of_its_own(
    machine: Machine, model_gib: int, wish: Wish, expected: list[tuple[str, int]]
) -> None:
    assert seats(machine, model_gib * GIB, wish) == tuple(Seat(*place) for place in expected)
