"""Which device a worker computes on: the one it was given, or an error that says why not. Pure; `visible.py` looks.

A worker that was given a GPU never falls back to the CPU in silence: that would cost ten times the time at the price of
the GPU, and mix two classes of numbers.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from evalfleet_worker.numerics import is_product
from evalfleet_worker.protocol import FailureReason, Numerics, RunError

AUTO = "auto"
"""What `evalfleet run --device` calls no choice."""
NOT_GIVEN = frozenset({"", "none", "void", "all"})
"""Values of NVIDIA_VISIBLE_DEVICES that prove nothing: `all` is what the CUDA images set, on any node."""


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU as torch sees it; `capability` is (major, minor)."""

    product: str
    memory_bytes: int
    capability: tuple[int, int]
    bfloat16: bool


@dataclass(frozen=True, slots=True)
class Visible:
    """What torch and the driver say.

    Attributes:
        torch: version of torch.
        build: CUDA or ROCm version that torch was built for; empty = for CPUs only.
        architectures: that it has kernels for, as `sm_90` or `compute_90`; empty = not known.
        devices: GPUs that it can open.
        error: its own words where it can open none.
        driver: version of the driver; empty = none.
        driver_products: GPUs that the driver sees.
    """

    torch: str
    build: str = ""
    architectures: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    error: str = ""
    driver: str = ""
    driver_products: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What this worker was told.

    Attributes:
        device: `cpu`, `cuda` or `cuda:N` by name; empty = nothing was said.
        given: product of the GPU that the platform gave it, or another proof of one; empty = none.
    """

    device: str = ""
    given: str = ""


def asked_of(environment: Mapping[str, str]) -> Asked:
    """What the environment says: EVALFLEET_DEVICE, EVALFLEET_ACCELERATOR, and what NVIDIA's device plugin sets.

    CUDA_VISIBLE_DEVICES without a device in it is the common way to say CPU.
    """
    hidden = environment.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    named = environment.get("EVALFLEET_DEVICE", "").strip()
    device = named if named not in ("", AUTO) else "cpu" if hidden else ""
    listed = environment.get("NVIDIA_VISIBLE_DEVICES", "")
    plugged = "" if listed.strip().lower() in NOT_GIVEN else f"NVIDIA_VISIBLE_DEVICES={listed}"
    return Asked(device, environment.get("EVALFLEET_ACCELERATOR") or plugged)


def choose_device(asked: Asked, numerics: Numerics, seen: Visible) -> str:
    """`cpu` or `cuda:N`.

    Args:
        asked: what this worker was told.
        numerics: the class of the run; an empty `device_kind` takes what there is.
        seen: what there is.

    Raises:
        RunError: NO_USABLE_ACCELERATOR, OTHER_NUMERICS (a device of another kind than the run's), INVALID_MODEL_REF (a
            name that is no device).
    """
    kind, index = _parsed(asked.device)
    if kind == "cpu" and numerics.device_kind == "cuda":
        raise _other("the run is computed on GPUs; this worker was told to use the CPU")
    if kind == "cuda" and numerics.device_kind == "cpu":
        raise _other("the run is computed on CPUs; this worker was told to use a GPU")
    if kind == "" and asked.given and numerics.device_kind == "cpu":
        raise _other(f"the run is computed on CPUs; this worker was given a GPU ({asked.given})")
    wanted = kind or numerics.device_kind or ("cuda" if asked.given or seen.devices else "cpu")
    if wanted == "cpu":
        return "cpu"
    device = _usable(index, asked, seen)
    if numerics.dtype == "BFloat16" and not device.bfloat16:
        raise _other(
            f"the run is computed in BFloat16; {device.product} (capability {_dotted(device)}) has no bfloat16 units"
        )
    return f"cuda:{index}"


def check_strict(numerics: Numerics, product: str, torch: str, kernels: str) -> None:
    """Refuse a worker that would give other last bits than the run's.

    Raises:
        RunError: OTHER_NUMERICS, naming what differs.
    """
    if not numerics.strict:
        return
    if numerics.product and not is_product(numerics.product, product):
        raise _other(f"numerics: Strict is bound to product {numerics.product}; this worker has {product}")
    for name, planned, found in (("torch", numerics.torch, torch), ("kernels", numerics.kernels, kernels)):
        if planned != found:
            raise _other(f"numerics: Strict is bound to {name} {planned}; this worker has {found}")


def _parsed(name: str) -> tuple[str, int]:
    """Kind and number of a device: `cuda:1` is ("cuda", 1)."""
    kind, _, number = name.partition(":")
    if kind not in ("", "cpu", "cuda") or (number and not number.isdigit()) or (number and kind != "cuda"):
        raise RunError(FailureReason.INVALID_MODEL_REF, f"device {name!r} is not one of cpu, cuda, cuda:N")
    return kind, int(number or 0)


def _usable(index: int, asked: Asked, seen: Visible) -> Device:
    """The device of that number, if torch can compute on it."""
    if not seen.build:
        raise _unusable(asked, f"torch {seen.torch} is built for CPUs only; use an image with CUDA", seen)
    if not seen.devices:
        raise _unusable(asked, seen.error or "torch sees none", seen)
    if index >= len(seen.devices):
        raise _unusable(asked, f"there is no cuda:{index}, only {len(seen.devices)} of them", seen)
    device = seen.devices[index]
    if not _has_kernels(device, seen.architectures):
        built = ", ".join(seen.architectures)
        raise _unusable(
            asked, f"{device.product} has capability {_dotted(device)}; torch has kernels for {built}", seen
        )
    return device


def _has_kernels(device: Device, architectures: tuple[str, ...]) -> bool:
    """Binary code runs on equal major and no smaller minor numbers, PTX on every later capability."""
    if not architectures:
        return True
    for name in architectures:
        form, _, digits = name.partition("_")
        number = digits.rstrip("abcdefghijklmnopqrstuvwxyz")
        if not number.isdigit():
            return True  # ROCm's names: its driver refuses what it has no code for
        built = int(number[:-1]), int(number[-1])
        if built == device.capability or (form == "compute" and built <= device.capability):
            return True
        if form == "sm" and built[0] == device.capability[0] and built[1] <= device.capability[1]:
            return True
    return False


def _dotted(device: Device) -> str:
    return ".".join(map(str, device.capability))


def _other(words: str) -> RunError:
    return RunError(FailureReason.OTHER_NUMERICS, f"{words}: its answers would not be the run's")


def _unusable(asked: Asked, why: str, seen: Visible) -> RunError:
    """What was asked, why it cannot be had, and what the driver says."""
    build = f"torch {seen.torch} for {seen.build}" if seen.build else f"torch {seen.torch}"
    driver = f"driver {seen.driver} sees {', '.join(seen.driver_products) or 'no GPU'}" if seen.driver else "no driver"
    given = asked.given or asked.device or "the run is computed on GPUs"
    return RunError(
        FailureReason.NO_USABLE_ACCELERATOR,
        f"a GPU is to be used ({given}), but {why} ({build}; {driver}). "
        "Mend the node or its image; to compute on the CPU say so: EVALFLEET_DEVICE=cpu",
    )
