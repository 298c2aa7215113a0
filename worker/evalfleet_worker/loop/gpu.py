"""What the driver says about this worker's GPU; nothing where there is none."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GpuUse:
    """How busy a GPU is: share of the last second in which a kernel ran [%], and its used memory [bytes]."""

    utilization_percent: float | None = None
    memory_bytes: int | None = None


def gpu_use() -> GpuUse:
    """Use of this worker's GPU by NVML; empty without a GPU, its driver or its library."""
    device = _device()
    if device is None:
        return GpuUse()
    library, handle = device
    try:
        utilization = float(library.nvmlDeviceGetUtilizationRates(handle).gpu)
        return GpuUse(utilization, int(library.nvmlDeviceGetMemoryInfo(handle).used))
    except library.NVMLError as error:
        log.debug("NVML: %s", error)
        return GpuUse()


@cache
def _device() -> tuple[Any, Any] | None:
    """The library and the handle of this worker's GPU, looked up once."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml, _handle(pynvml, visible_name(os.environ))
    except (pynvml.NVMLError, ValueError) as error:
        log.debug("no GPU figures: %s", error)
        return None


def visible_name(environment: Mapping[str, str]) -> str:
    """How CUDA_VISIBLE_DEVICES names the GPU of this worker: the one of EVALFLEET_DEVICE (`cuda:N`), else the first."""
    number = int(environment.get("EVALFLEET_DEVICE", "").partition(":")[2] or 0)
    names = [name.strip() for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return names[number] if number < len(names) else str(number)


def _handle(library: Any, visible: str) -> Any:
    """CUDA names its devices by number or by UUID."""
    if visible.startswith(("GPU-", "MIG-")):
        return library.nvmlDeviceGetHandleByUUID(visible)
    return library.nvmlDeviceGetHandleByIndex(int(visible))
