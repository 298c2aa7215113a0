"""The numerics class of a run is chosen in the plan, from the checkpoint and the devices that may be used."""

from pathlib import Path

import pytest

from evalfleet_worker.model.weights_header import TensorHeader
from evalfleet_worker.numerics import (
    Machine,
    checkpoint_dtype,
    computes_bfloat16,
    is_product,
    resolve_numerics,
)
from evalfleet_worker.protocol import EngineSpec, FailureReason, ModelSpec, RunError, RunSpec, dumps, loads

CPU = Machine("cpu", "Some CPU")
GPU = Machine("cuda", "NVIDIA H200")


def run_of(dtype="Auto", kind="Auto", accelerators=(), **engine):
    return RunSpec(
        "n", "r", "r", "memory://", ModelSpec("m", dtype=dtype), (), EngineSpec(**engine),
        device_kind=kind, accelerators=accelerators,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "checkpoint", "kind", "accelerators", "expected", "words"),
    [
        ("Auto", "Float32", "cpu", (), "Float32", ""),
        ("Auto", "BFloat16", "cpu", (), "Float32", "Float32 on a CPU; the checkpoint is BFloat16"),
        ("Auto", "Float16", "cpu", (), "Float32", "Float32 on a CPU; the checkpoint is Float16"),
        ("Auto", "BFloat16", "cuda", (), "BFloat16", ""),
        ("Auto", "BFloat16", "cuda", ("NVIDIA-H100-80GB-HBM3", "something new"), "BFloat16", ""),
        ("Auto", "BFloat16", "cuda", ("NVIDIA-L4", "Tesla-T4"), "Float32", "Tesla-T4 has no bfloat16 units"),
        ("Auto", "Float16", "cuda", ("Tesla-T4",), "Float16", "the checkpoint is Float16"),
        ("Auto", "Float32", "cuda", ("nvidia-h200",), "Float32", ""),
        ("Auto", "", "cuda", (), "Float32", ""),
        ("BFloat16", "Float32", "cpu", (), "BFloat16", ""),
        ("BFloat16", "Float32", "cuda", ("NVIDIA-L4", "Tesla-T4"), "BFloat16", "Tesla-T4 has no bfloat16 units"),
        ("Float16", "BFloat16", "cuda", ("Tesla-T4",), "Float16", ""),
    ],
)
def test_the_number_type_follows_checkpoint_and_devices(dtype, checkpoint, kind, accelerators, expected, words):
    numerics, messages = resolve_numerics(run_of(dtype, kind, accelerators), checkpoint, CPU)
    assert (numerics.dtype, numerics.device_kind) == (expected, kind)
    assert words in " ".join(messages)
    assert bool(messages) == bool(words)


def test_bfloat16_that_no_pool_computes_is_refused():
    with pytest.raises(RunError) as refused:
        resolve_numerics(run_of("BFloat16", "cuda", ("Tesla-V100-SXM2-16GB",)), "BFloat16", GPU)
    assert refused.value.reason is FailureReason.NO_USABLE_ACCELERATOR
    assert "Tesla-V100-SXM2-16GB" in refused.value.message


@pytest.mark.parametrize(("machine", "kind"), [(CPU, "cpu"), (GPU, "cuda")])
def test_auto_takes_the_kind_of_the_machine_that_plans(machine, kind):
    assert resolve_numerics(run_of(), "BFloat16", machine)[0].device_kind == kind


def test_pools_of_one_kind_share_a_fast_run_and_not_a_strict_one():
    pools = {"accelerators": ("NVIDIA-H100", "NVIDIA-A100"), "kind": "cuda"}
    fast = resolve_numerics(run_of(**pools), "BFloat16", CPU)[0]
    assert (fast.product, fast.torch, fast.step_tokens) == ("", "", 0)
    strict, messages = resolve_numerics(run_of(**pools, numerics="Strict"), "BFloat16", CPU)
    assert (strict.product, strict.step_tokens) == ("NVIDIA-H100", 8192)
    assert strict.torch
    assert messages == ["Strict: this run is computed on NVIDIA-H100 alone"]
    assert str(strict) != str(fast)
    small = resolve_numerics(run_of(numerics="Strict", max_tokens_per_step=300), "Float32", CPU)[0]
    assert (small.product, small.step_tokens) == ("Some CPU", 300)


def header(name, dtype, count):
    return TensorHeader(name, dtype, (count,), Path("f"), 0, 0)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, "BFloat16"),
        ({"dtype": "float16"}, "Float16"),
        ({"dtype": "torch.float32"}, "Float32"),
        ({"text_config": {"dtype": "bfloat16"}}, "BFloat16"),
        ({"dtype": None, "torch_dtype": "float16"}, "Float16"),
        ({}, "BFloat16"),
        ({"dtype": "float8_e4m3fn"}, ""),
    ],
)
def test_a_checkpoint_s_type_is_read_as_transformers_auto_does(config, expected):
    headers = [header("a", "F32", 10), header("b", "BF16", 90), header("c", "BF16", 5)]
    assert checkpoint_dtype(config, headers) == expected


@pytest.mark.parametrize(
    ("product", "has"),
    [
        ("NVIDIA H200", True), ("NVIDIA-A100-SXM4-40GB", True), ("nvidia-l4", True), ("NVIDIA A40", True),
        ("NVIDIA RTX A6000", True), ("NVIDIA GeForce RTX 4090", True), ("Tesla T4", False), ("nvidia-tesla-t4", False),
        ("Tesla-V100-SXM2-32GB", False), ("Tesla P4", False), ("NVIDIA GeForce RTX 2080 Ti", False),
        ("NVIDIA GeForce GTX 1080", False), ("Quadro RTX 8000", False), ("AMD Instinct MI300X", True),
    ],
)  # fmt: skip
def test_products_without_bfloat16_are_known(product, has):
    assert computes_bfloat16(product) is has


@pytest.mark.parametrize(
    ("named", "found", "same"),
    [
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA H100 80GB HBM3", True),
        ("nvidia-h100", "NVIDIA H100 80GB HBM3", True),
        ("nvidia-tesla-t4", "Tesla T4", True),
        ("NVIDIA-A10", "NVIDIA A100-SXM4-40GB", False),
        ("NVIDIA-H200", "NVIDIA H100 80GB HBM3", False),
    ],
)
def test_a_product_is_known_by_any_of_its_spellings(named, found, same):
    assert is_product(named, found) is same


def test_the_class_travels_with_the_run_and_is_no_part_of_what_was_asked():
    run = run_of()
    numerics = resolve_numerics(run, "Float16", GPU)[0]
    handed = loads(RunSpec, dumps(run).replace('"resolved":null', f'"resolved":{dumps(numerics)}'))
    assert handed.resolved == numerics
    assert handed.digest() == run.digest()
