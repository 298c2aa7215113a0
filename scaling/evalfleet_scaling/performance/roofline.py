"""What a run should cost by arithmetic alone: the prior of every prediction, and the scale of every measurement.

    seconds = max(F / P, B / W) + other + c n      (roofline, Williams et al. 2009; n units of c seconds each)

P and W are what a device sustains: 45 % of its dense 16-bit peak and of its bandwidth by data sheet; of an H200 that is
the 450 TFLOP/s that the worker plans with. Only ratios to these numbers are learnt, so that their errors, which are
the same for every run of a device, disappear with the first run on it.
"""

from dataclasses import dataclass

from evalfleet_scaling.checks import require_number
from evalfleet_scaling.performance.interface import InvalidWorkError, Quantity, Work

SUSTAINED = 0.45
UNIT_SECONDS = 0.02
REFERENCE_FLOPS_PER_SECOND, REFERENCE_BYTES_PER_SECOND = 3e10, 8e9
"""The constant device that the worker's planner cuts units by (decision 0033)."""
PLANNED_VALUE_BYTES = 4
"""Bytes per weight in the plan's estimates of memory and of weights read."""


@dataclass(frozen=True, slots=True)
class Device:
    """Sustained rates of a kind of device, and what an engine needs there before any model is loaded."""

    flops_per_second: float
    bytes_per_second: float
    value_bytes: int = 2
    process_bytes: float = 1.0e9
    process_seconds: float = 15.0
    load_bytes_per_second: float = 1.0e9


def _gpu(peak_teraflops: float, terabytes_per_second: float) -> Device:
    return Device(SUSTAINED * peak_teraflops * 1e12, SUSTAINED * terabytes_per_second * 1e12)


CPU_CORE = Device(6e10, 8e9, 4, 0.7e9, 6.0, 1.0e9)
"""One core: fp32. The engine's imports are 4 s and 660 MB (docs/engine.md)."""
UNKNOWN_GPU = _gpu(250, 1.2)
GPUS: tuple[tuple[str, Device], ...] = (
    ("b200", _gpu(2250, 8.0)),
    ("h200", _gpu(989, 4.8)),
    ("h100 pcie", _gpu(756, 2.0)),
    ("h100", _gpu(989, 3.35)),
    ("a100", _gpu(312, 1.9)),
    ("l40s", _gpu(362, 0.86)),
    ("l4", _gpu(121, 0.3)),
    ("a10", _gpu(125, 0.6)),
    ("v100", _gpu(125, 0.9)),
    ("t4", _gpu(65, 0.32)),
)
"""Dense 16-bit peak [TFLOP/s] and bandwidth [TB/s] of the makers' data sheets; the first name found in the product
name counts."""


def device(gpu: str) -> Device:
    """The device of a product name; an unknown GPU is taken for a middling one."""
    name = gpu.casefold()
    if "cpu" in name:
        return CPU_CORE
    return next((known for part, known in GPUS if part in name), UNKNOWN_GPU)


def expected(quantity: Quantity, work: Work, gpu: str) -> float:
    """Seconds or bytes by arithmetic alone; positive, and never less for more work."""
    place = device(gpu)
    shrink = place.value_bytes / PLANNED_VALUE_BYTES
    planned = work.memory_bytes * shrink
    match quantity:
        case Quantity.SCORING_SECONDS:
            passes = max(work.flops / place.flops_per_second, work.bytes_read * shrink / place.bytes_per_second)
            return passes + work.other_seconds + UNIT_SECONDS * work.units
        case Quantity.MEMORY_BYTES:
            return place.process_bytes + planned
        case Quantity.STARTUP_SECONDS:
            return place.process_seconds + planned / place.load_bytes_per_second


def planned_work(predicted_seconds: float, flops: float, memory_bytes: float, bytes_read: float, units: int) -> Work:
    """The work of a plan report, whose fields the arguments are.

    What the plan predicts beyond its arithmetic and its reading of weights is user code, as slow everywhere.

    Raises:
        InvalidWorkError: negative, not a number, or nothing to do.
    """
    require_number(InvalidWorkError, "predicted_seconds", predicted_seconds)
    rest = predicted_seconds - flops / REFERENCE_FLOPS_PER_SECOND - bytes_read / REFERENCE_BYTES_PER_SECOND
    return Work(flops, memory_bytes, bytes_read, rest if rest > 0.01 * predicted_seconds else 0.0, units)
