"""How many workers one machine runs, and on what: one per GPU, else one per socket whose model fits memory. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

USABLE_MEMORY = 0.9
"""Share of the available memory that workers may take together; the rest is everybody else's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to compute on.

    Attributes:
        gpus: devices that torch can compute on, as `cuda:0`.
        cores: that this process may use.
        sockets: that these cores lie on.
        memory_bytes: of the host, available now.
    """

    gpus: Sequence[str]
    cores: int
    sockets: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for.

    Attributes:
        device: `auto`, `cpu`, `cuda` (every GPU) or `cuda:N` (this one).
        workers: exactly so many; None = as many as are sensible.
        most: never more.
    """

    device: str = "auto"
    workers: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one worker computes: its device and its threads."""

    device: str
    threads: int


def seats(machine: Machine, model_bytes: int, wish: Wish) -> tuple[Seat, ...]:
    """Where the workers of a run compute; never none.

    Args:
        machine: what there is.
        model_bytes: memory that one worker needs, as the plan predicts it.
        wish: what was asked for. A wish for more workers than GPUs gets one per GPU.
    """
    devices = _gpus(machine, wish.device)
    count = len(devices) if devices else _shares(machine, model_bytes)
    if wish.workers is not None:
        count = min(wish.workers, len(devices)) if devices else wish.workers
    count = max(1, min(count, wish.most or count))
    threads = max(1, machine.cores // count)
    return tuple(Seat(devices[index] if devices else "cpu", threads) for index in range(count))


def _gpus(machine: Machine, device: str) -> Sequence[str]:
    if device == "cpu":
        return ()
    return [device] if ":" in device else machine.gpus


def _shares(machine: Machine, model_bytes: int) -> int:
    """One worker per socket: its threads share a memory controller, and weights lie in memory as rarely as can be."""
    fit = int(USABLE_MEMORY * machine.memory_bytes / model_bytes) if model_bytes else machine.sockets
    return max(1, min(machine.sockets, machine.cores, fit))
