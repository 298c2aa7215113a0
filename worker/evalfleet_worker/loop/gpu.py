"""What the driver says about this worker's GPU; nothing where there is none."""

import logging
import os
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
    """Use of the first visible GPU by NVML; empty without a GPU, its driver or its library."""
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
    """The library and the handle of the first visible GPU, looked up once."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return pynvml, _handle(pynvml, os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip())
    except (pynvml.NVMLError, ValueError) as error:
        log.debug("no GPU figures: %s", error)
        return None


def _handle(library: Any, visible: str) -> Any:
    """CUDA names its devices by number or by UUID."""
    if visible.startswith(("GPU-", "MIG-")):
        return library.nvmlDeviceGetHandleByUUID(visible)
    return library.nvmlDeviceGetHandleByIndex(int(visible or 0))
