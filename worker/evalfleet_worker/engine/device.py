"""Which device and number type a model runs with."""

import importlib.metadata
import os
from dataclasses import dataclass
from typing import Any

import torch

from evalfleet_worker.engine.accelerator import asked_of, check_strict, choose_device
from evalfleet_worker.engine.memory import (
    available_host_bytes,
    fitting_tokens,
    limited_budget,
    step_budget,
    strict_budget,
)
from evalfleet_worker.engine.pack import Budget
from evalfleet_worker.engine.visible import cpu_product, look, machine_of
from evalfleet_worker.model.facts import ModelFacts
from evalfleet_worker.model.weights_report import check_report, report_of
from evalfleet_worker.numerics import KERNELS, resolve_numerics
from evalfleet_worker.protocol import Numerics, RunSpec

DTYPES = {"Float32": torch.float32, "BFloat16": torch.bfloat16, "Float16": torch.float16}


def dtype_name(dtype: torch.dtype) -> str:
    """The type's name as jobs spell it, for example `BFloat16`."""
    return next((name for name, known in DTYPES.items() if known is dtype), str(dtype))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the weights go.

    Attributes:
        device: torch device.
        dtype: type of weights and activations; the normaliser is fp32 always.
        name: product name for people.
        numerics: the class of arithmetic that this gives.
    """

    device: torch.device
    dtype: torch.dtype
    name: str
    numerics: Numerics

    @property
    def value_bytes(self) -> int:
        """Bytes of one weight."""
        return self.dtype.itemsize

    def free_bytes(self) -> int:
        """Memory that is free on the device now."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return available_host_bytes()


def place(run: RunSpec, checkpoint: str) -> Placement:
    """The device that this worker was given, with the number type of the run.

    Args:
        run: with the class that the plan chose; without a plan it is chosen here.
        checkpoint: number type of the checkpoint.

    Raises:
        RunError: see `choose_device` and `check_strict`.
    """
    asked, seen = asked_of(os.environ), look()
    numerics = run.resolved or resolve_numerics(run, checkpoint, machine_of(os.environ))[0]
    device = torch.device(choose_device(asked, numerics, seen))
    product = cpu_product() if device.type == "cpu" else seen.devices[device.index].product
    check_strict(numerics, product, importlib.metadata.version("torch"), KERNELS)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return Placement(device, DTYPES[numerics.dtype], "cpu" if device.type == "cpu" else product, numerics)


def budget_of(facts: ModelFacts, placement: Placement, limit: int | None) -> Budget:
    """The budget of a step: the plan's in `Strict`, else the job's limit, else what fits beside the loaded weights.

    Raises:
        RunError: OutOfMemory.
    """
    free, strict = placement.free_bytes(), placement.numerics.step_tokens
    if strict:
        return strict_budget(strict, fitting_tokens(facts, free, placement.value_bytes))
    fitting = step_budget(facts, placement.device.type, free, placement.value_bytes)
    return limited_budget(limit) if limit else fitting


def make_deterministic(strict: bool) -> None:
    """Numerics of the process: no TF32; in `Strict` deterministic kernels only, no autotuning."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS refuses deterministic algorithms without
        torch.use_deterministic_algorithms(True)


def load_weights(auto_class: Any, folder: str, placement: Placement, trust_remote_code: bool) -> Any:
    """A transformers model in evaluation mode on its device, without progress bars.

    Raises:
        RunError: ModelUnreadable, when tensors are missing, foreign or of another shape.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model, info = auto_class.from_pretrained(
        folder, dtype=placement.dtype, trust_remote_code=trust_remote_code, use_safetensors=True, local_files_only=True,
        output_loading_info=True,
    )  # fmt: skip
    check_report(report_of(model, info, auto_class is transformers.AutoModel), folder)
    return model.eval().requires_grad_(requires_grad=False).to(placement.device)
