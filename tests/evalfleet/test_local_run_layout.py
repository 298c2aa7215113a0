"""How many workers one machine runs and on what: a table of machines."""

import re
from typing import Any

import pytest

from evalfleet.local.run.layout import Machine, Seat, Wish, seats
from evalfleet.local.run.machine import gpus_of, may_have_gpus, this_machine
from evalfleet_worker.protocol import FailureReason, RunError

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


def report(*devices: str, driver: str = "580.1", seen: int | None = None, **more: Any) -> dict[str, Any]:
    """What the worker's `devices` command says of a machine."""
    products = ["NVIDIA H200"] * (len(devices) if seen is None else seen)
    found = [{"device": device, "product": "NVIDIA H200"} for device in devices]
    known = {"torch": "2.15", "build": "CUDA 13.2", "driver": driver, "driverProducts": products, "error": ""}
    return {**known, "devices": found, **more}


@pytest.mark.parametrize(
    ("said", "device", "expected"),
    [
        (report("cuda:0", "cuda:1"), "auto", ("cuda:0", "cuda:1")),
        (report("cuda:0", "cuda:1"), "cuda:1", ("cuda:0", "cuda:1")),
        (report(driver="", seen=0), "auto", ()),
    ],
)
def test_gpus_are_those_that_torch_can_use(said: Any, device: str, expected: tuple[str, ...]) -> None:
    assert gpus_of(said, device) == expected


@pytest.mark.parametrize(
    ("said", "device", "words"),
    [
        (
            report(seen=1, error="CUDA driver version is insufficient"),
            "auto",
            "this machine has a GPU, but CUDA driver",
        ),
        (report(seen=2, build=""), "auto", "built for CPUs only; driver 580.1 sees NVIDIA H200, NVIDIA H200"),
        (report(driver="", seen=0), "cuda", "--device cuda, but torch can use none (torch 2.15 .* there is no driver"),
        (report("cuda:0"), "cuda:1", "--device cuda:1, but usable: cuda:0"),
    ],
)
def test_a_gpu_that_is_there_or_asked_for_is_used_or_missed_in_words(said: Any, device: str, words: str) -> None:
    with pytest.raises(RunError, match=words.replace("(", re.escape("("))) as caught:
        gpus_of(said, device)
    assert caught.value.reason is FailureReason.NO_USABLE_ACCELERATOR
    assert "to compute on the CPU say --device cpu" in caught.value.message


def test_this_machine_is_seen_as_it_is() -> None:
    found = this_machine("cpu")
    assert found.gpus == ()
    assert 1 <= found.sockets <= found.cores
    assert found.memory_bytes > GIB / 8
    assert not may_have_gpus({"CUDA_VISIBLE_DEVICES": ""}), "the common way to say CPU"
