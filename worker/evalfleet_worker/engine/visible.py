"""What this machine computes with: GPUs by torch and by the driver, and the CPU's name."""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evalfleet_worker.engine.accelerator import Asked, Device, Visible, asked_of
from evalfleet_worker.numerics import Machine

CPU_FACTS = Path("/proc/cpuinfo")
CUDA_WITH_BFLOAT16 = (8, 0)


def machine_of(environment: Mapping[str, str]) -> Machine:
    """What the plan's machine has, without torch: what it was told, else what the driver sees."""
    asked, (_, products) = asked_of(environment), driver_facts()
    kind = asked.device.partition(":")[0] or ("cuda" if asked.given or products else "cpu")
    return Machine(kind, cpu_product() if kind == "cpu" else next(iter(products), ""))


def look() -> Visible:
    """What torch and the driver see; opens no device when there is none."""
    import torch

    driver, products = driver_facts()
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else ""
    build = build or (f"ROCm {torch.version.hip}" if torch.version.hip else "")
    devices, error = _devices(torch) if build else ((), "")
    architectures = tuple(torch.cuda.get_arch_list()) if devices else ()
    return Visible(str(torch.__version__), build, architectures, devices, error, driver, products)


def devices_report(seen: Visible, asked: Asked) -> dict[str, Any]:
    """JSON-ready: what can be computed on here."""
    return {
        "torch": seen.torch,
        "build": seen.build,
        "driver": seen.driver,
        "driverProducts": list(seen.driver_products),
        "error": seen.error,
        "given": asked.given,
        "devices": [
            {
                "device": f"cuda:{index}",
                "product": device.product,
                "memoryBytes": device.memory_bytes,
                "capability": ".".join(map(str, device.capability)),
                "bfloat16": device.bfloat16,
            }
            for index, device in enumerate(seen.devices)
        ],
    }


@cache
def driver_facts() -> tuple[str, tuple[str, ...]]:
    """The NVIDIA driver's version and the products it sees; empty without driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return _text(pynvml.nvmlSystemGetDriverVersion()), tuple(_text(pynvml.nvmlDeviceGetName(h)) for h in handles)
    except pynvml.NVMLError:
        return "", ()


def cpu_product() -> str:
    """The CPU's name as the kernel has it, for example `AMD EPYC 9654 96-Core Processor`."""
    try:
        lines = CPU_FACTS.read_text("utf-8").splitlines()
    except OSError:
        return os.uname().machine
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, os.uname().machine)


def _devices(torch: Any) -> tuple[tuple[Device, ...], str]:
    try:
        torch.cuda.init()
        return tuple(_device(torch, index) for index in range(torch.cuda.device_count())), ""
    except (RuntimeError, AssertionError) as error:
        return (), str(error).splitlines()[0]


def _device(torch: Any, index: int) -> Device:
    facts = torch.cuda.get_device_properties(index)
    capability = (int(facts.major), int(facts.minor))
    bfloat16 = bool(torch.version.hip) or capability >= CUDA_WITH_BFLOAT16
    return Device(str(facts.name), int(facts.total_memory), capability, bfloat16)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
