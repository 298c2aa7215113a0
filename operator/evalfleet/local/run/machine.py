"""What this machine computes with: cores, sockets and memory from the kernel, GPUs from the worker's torch."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalfleet.local.run.layout import Machine
from evalfleet_worker.protocol import FailureReason, RunError

CGROUP = Path("/sys/fs/cgroup")
TOPOLOGY = Path("/sys/devices/system/cpu")
GPU_SIGNS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/dxg")
"""Device files of NVIDIA, AMD and WSL; without one there is no GPU and no need to start torch to see none."""


def this_machine(device: str) -> Machine:
    """The machine; GPUs are looked for unless `device` is `cpu`.

    Raises:
        RunError: NoUsableAccelerator, when a GPU is asked for or there and cannot be used.
    """
    cores = sorted(os.sched_getaffinity(0))
    wanted = device.startswith("cuda")
    look = wanted or (device == "auto" and may_have_gpus(os.environ))
    gpus = gpus_of(_devices_report(), device) if look else ()
    return Machine(gpus, _cores(len(cores)), _sockets(cores), _memory())


def may_have_gpus(environment: Mapping[str, str]) -> bool:
    """Whether it is worth asking torch; an empty CUDA_VISIBLE_DEVICES is the common way to say CPU."""
    if environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return any(list(Path("/").glob(sign.lstrip("/"))) for sign in GPU_SIGNS)


def gpus_of(report: Any, device: str) -> tuple[str, ...]:
    """The GPUs of a report of the worker's `devices` command that `device` may mean.

    Raises:
        RunError: NoUsableAccelerator, when none can be used that is asked for, or that the driver sees.
    """
    found = tuple(str(entry["device"]) for entry in report["devices"])
    missing = (device.startswith("cuda") and not found) or (":" in device and device not in found)
    if missing or (report["driverProducts"] and not found):
        raise RunError(FailureReason.NO_USABLE_ACCELERATOR, _why_none(device, report, found))
    return found


def _devices_report() -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "evalfleet_worker", "devices"], capture_output=True, text=True, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise RunError(FailureReason.INTERNAL_ERROR, f"the devices cannot be listed: {last[0]}") from None


def _why_none(device: str, report: Any, found: Iterable[str]) -> str:
    seen = ", ".join(report["driverProducts"]) or "no GPU"
    driver = f"driver {report['driver']} sees {seen}" if report["driver"] else "there is no driver"
    build = f"torch {report['torch']} is built for {report['build'] or 'CPUs only'}"
    asked = f"--device {device}" if device != "auto" else "this machine has a GPU"
    usable = f"usable: {', '.join(found)}" if found else report["error"] or "torch can use none"
    return f"{asked}, but {usable} ({build}; {driver}); to compute on the CPU say --device cpu"


def _cores(affinity: int) -> int:
    """Cores by affinity and by the container's quota."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text("ascii").split()
        return max(1, min(affinity, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return affinity


def _sockets(cores: Iterable[int]) -> int:
    found = set()
    for core in cores:
        try:
            found.add((TOPOLOGY / f"cpu{core}" / "topology" / "physical_package_id").read_text("ascii"))
        except OSError:
            continue
    return max(1, len(found))


def _memory() -> int:
    """MemAvailable, or what the container's limit leaves if that is less."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    available = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit, used = ((CGROUP / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
        return min(available, max(1, int(limit) - int(used)))
    except (OSError, ValueError):
        return available
