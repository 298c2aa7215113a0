"""The numerics class of a run, resolved in the plan: which number type, on which kind of device. Torch-free.

`Auto` is the checkpoint's own number type where every GPU that may be used computes it, and Float32 on a CPU, where
halves are slower. bfloat16 is never emulated: a product without such units gets Float32, which holds the same values.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalfleet_worker.model.weights_header import TensorHeader
from evalfleet_worker.protocol import FailureReason, Numerics, RunError, RunSpec

KERNELS = "dense-blocks"
"""The attention kernel of packed steps."""
STRICT_STEP_TOKENS = {"cpu": 2048, "cuda": 8192}
CONFIG_TYPES = {"float32": "Float32", "bfloat16": "BFloat16", "float16": "Float16", "half": "Float16"}
STORED_TYPES = {"F32": "Float32", "F64": "Float32", "BF16": "BFloat16", "F16": "Float16"}
MAKERS = ("nvidia", "tesla", "geforce")
BEFORE_BFLOAT16 = re.compile(r"\b(k80|m10|m40|m60|p4|p6|p40|p100|v100s?|t4g?|gtx|titan|quadro|20[5-8]0)\b")
"""NVIDIA products of a compute capability below 8.0, as their names spell them."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the plan's own machine has.

    Attributes:
        device_kind: cpu or cuda.
        product: of the device, as its driver or kernel names it.
    """

    device_kind: str
    product: str


def resolve_numerics(run: RunSpec, checkpoint: str, machine: Machine) -> tuple[Numerics, list[str]]:
    """The class of a run and what a person should know about it.

    Args:
        run: what was asked.
        checkpoint: number type of the checkpoint, see `checkpoint_dtype`; empty = unknown.
        machine: where the plan runs; decides where the run does not say what workers compute on.

    Raises:
        RunError: NO_USABLE_ACCELERATOR, when BFloat16 is asked for and no GPU that may be used has it.
    """
    kind = machine.device_kind if run.device_kind == "Auto" else run.device_kind
    dtype, words = _auto(checkpoint, kind, run.accelerators) if run.model.dtype == "Auto" else (run.model.dtype, [])
    if kind == "cuda" and dtype == "BFloat16":
        words += _without_bfloat16(run.accelerators)
    quantization = run.model.quantization or ""
    if run.engine.numerics != "Strict":
        return Numerics(dtype=dtype, device_kind=kind, quantization=quantization), words
    product, more = _strict_product(run, machine)
    strict = Numerics(
        dtype=dtype,
        device_kind=kind,
        quantization=quantization,
        strict=True,
        product=product,
        torch=importlib.metadata.version("torch"),
        kernels=KERNELS,
        step_tokens=run.engine.max_tokens_per_step or STRICT_STEP_TOKENS[kind],
    )
    return strict, words + more


def checkpoint_dtype(config: Mapping[str, Any], headers: Iterable[TensorHeader]) -> str:
    """The number type of a checkpoint as `dtype="auto"` reads it: what its config says, else what most weights are."""
    text = config.get("text_config") or {}
    named = next(filter(None, (c.get(name) for c in (config, text) for name in ("dtype", "torch_dtype"))), None)
    if named:
        return CONFIG_TYPES.get(str(named).removeprefix("torch."), "")
    stored: dict[str, int] = {}
    for header in headers:
        stored[header.dtype] = stored.get(header.dtype, 0) + header.values
    return STORED_TYPES.get(max(stored, key=lambda name: stored[name]), "") if stored else ""


def computes_bfloat16(product: str) -> bool:
    """Whether a GPU of that name has bfloat16 units; what is not known has them."""
    return BEFORE_BFLOAT16.search(_product_words(product)) is None


def is_product(named: str, found: str) -> bool:
    """Whether a device is of the named product: node labels spell `nvidia-h100` what torch calls `NVIDIA H100 80GB`."""
    return f"{_product_words(found)} ".startswith(f"{_product_words(named)} ")


def _product_words(product: str) -> str:
    words = re.findall(r"[a-z0-9]+", product.lower())
    return " ".join(word for word in words if word not in MAKERS)


def _auto(checkpoint: str, kind: str, accelerators: Sequence[str]) -> tuple[str, list[str]]:
    if kind == "cpu":
        differs = checkpoint not in ("", "Float32")
        return "Float32", [f"Float32 on a CPU; the checkpoint is {checkpoint}"] if differs else []
    if checkpoint == "BFloat16":
        old = [product for product in accelerators if not computes_bfloat16(product)]
        if old:
            return "Float32", [f"Float32, because {', '.join(old)} has no bfloat16 units; the checkpoint is BFloat16"]
    if checkpoint == "Float16":
        return checkpoint, ["the checkpoint is Float16: where its numbers overflow the run fails with NotFinite"]
    return checkpoint or "Float32", []


def _without_bfloat16(accelerators: Sequence[str]) -> list[str]:
    old = [product for product in accelerators if not computes_bfloat16(product)]
    if old and len(old) == len(accelerators):
        raise RunError(
            FailureReason.NO_USABLE_ACCELERATOR,
            f"model.dtype BFloat16, but {', '.join(old)} has no bfloat16 units: set Float32, or take another pool",
        )
    return [f"{', '.join(old)} has no bfloat16 units and takes no part in this run"] if old else []


def _strict_product(run: RunSpec, machine: Machine) -> tuple[str, list[str]]:
    """The product that a Strict run is bound to: the first that may be used, or the plan's own."""
    if run.device_kind == "Auto":
        return machine.product, []
    if not run.accelerators:
        return "", ["Strict: the workers' product is not known to the plan; use one kind of machine"]
    product = run.accelerators[0]
    others = len(set(run.accelerators)) > 1
    return product, [f"Strict: this run is computed on {product} alone"] if others else []
