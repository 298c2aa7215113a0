"""A worker that was given a GPU uses it or says why not; CPU only where somebody said CPU."""

import json
import os
import subprocess
import sys

import pytest

from evalfleet_worker.engine.accelerator import Asked, Device, Visible, asked_of, check_strict, choose_device
from evalfleet_worker.loop.gpu import visible_name
from evalfleet_worker.protocol import FailureReason, Numerics, RunError

H200 = Device("NVIDIA H200", 141 << 30, (9, 0), True)
T4 = Device("Tesla T4", 15 << 30, (7, 5), False)
K80 = Device("Tesla K80", 11 << 30, (3, 7), False)
BUILT = ("sm_75", "sm_80", "sm_90", "compute_90")
NEXT = Device("NVIDIA B300", 288 << 30, (10, 3), True)
NOTHING = Visible("2.15.0+cpu")
NO_DRIVER = Visible("2.15.0", "CUDA 13.0", error="Found no NVIDIA driver on your system.")
OLD_DRIVER = Visible(
    "2.15.0", "CUDA 13.0", error="The NVIDIA driver on your system is too old (found version 11040).",
    driver="470.57", driver_products=("NVIDIA H200",),
)  # fmt: skip


def seen(*devices):
    names = tuple(device.product for device in devices)
    return Visible("2.15.0", "CUDA 13.0", BUILT, devices, driver="580.1", driver_products=names)


def of(kind, dtype="Float32"):
    return Numerics(dtype=dtype, device_kind=kind)


@pytest.mark.parametrize(
    ("asked", "numerics", "visible", "device"),
    [
        (Asked(), of("cpu"), NOTHING, "cpu"),
        (Asked("cpu"), of("cpu"), seen(H200), "cpu"),
        (Asked(), of("cpu"), seen(H200), "cpu"),
        (Asked("cpu", given="H200"), of("cpu"), seen(H200), "cpu"),
        (Asked(), of(""), NOTHING, "cpu"),
        (Asked(), of(""), seen(H200), "cuda:0"),
        (Asked(given="H200"), of("cuda", "BFloat16"), seen(H200), "cuda:0"),
        (Asked(), of("cuda", "BFloat16"), seen(H200), "cuda:0"),
        (Asked("cuda:1"), of("cuda", "BFloat16"), seen(T4, H200), "cuda:1"),
        (Asked("cuda"), of("cuda", "Float16"), seen(T4), "cuda:0"),
        (Asked(given="B300"), of("cuda", "BFloat16"), seen(NEXT), "cuda:0"),  # by PTX
    ],
)
def test_a_device_is_taken(asked, numerics, visible, device):
    assert choose_device(asked, numerics, visible) == device


UNUSABLE, OTHER = FailureReason.NO_USABLE_ACCELERATOR, FailureReason.OTHER_NUMERICS


@pytest.mark.parametrize(
    ("asked", "numerics", "visible", "reason", "words"),
    [
        (
            Asked(given="NVIDIA-H100"),
            of("cuda"),
            NOTHING,
            UNUSABLE,
            ["NVIDIA-H100", "built for CPUs only", "no driver"],
        ),
        (Asked(given="NVIDIA-H100"), of(""), NOTHING, UNUSABLE, ["built for CPUs only"]),
        (Asked("cuda"), of(""), NO_DRIVER, UNUSABLE, ["Found no NVIDIA driver", "CUDA 13.0", "no driver"]),
        (Asked(), of("cuda"), OLD_DRIVER, UNUSABLE, ["too old", "driver 470.57 sees NVIDIA H200", "CUDA 13.0"]),
        (Asked("cuda:3"), of("cuda"), seen(H200), UNUSABLE, ["no cuda:3, only 1"]),
        (Asked(given="K80"), of("cuda"), seen(K80), UNUSABLE, ["Tesla K80 has capability 3.7", "sm_75"]),
        (Asked(given="T4"), of("cuda", "BFloat16"), seen(T4), OTHER, ["Tesla T4 (capability 7.5)", "BFloat16"]),
        (Asked(given="H100"), of("cpu"), seen(H200), OTHER, ["computed on CPUs", "given a GPU (H100)"]),
        (Asked("cuda"), of("cpu"), seen(H200), OTHER, ["computed on CPUs"]),
        (Asked("cpu"), of("cuda"), seen(H200), OTHER, ["computed on GPUs"]),
        (Asked("gpu0"), of("cpu"), NOTHING, FailureReason.INVALID_MODEL_REF, ["gpu0", "cuda:N"]),
        (Asked("cpu:1"), of("cpu"), NOTHING, FailureReason.INVALID_MODEL_REF, ["cpu:1"]),
    ],
)
def test_a_device_is_refused_in_words(asked, numerics, visible, reason, words):
    with pytest.raises(RunError) as refused:
        choose_device(asked, numerics, visible)
    assert refused.value.reason is reason
    assert all(word in refused.value.message for word in words), refused.value.message


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, Asked()),
        ({"EVALFLEET_DEVICE": "cuda:2"}, Asked("cuda:2")),
        ({"EVALFLEET_DEVICE": "auto"}, Asked()),
        ({"EVALFLEET_ACCELERATOR": "NVIDIA-L4"}, Asked("", "NVIDIA-L4")),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-8f2e"}, Asked("", "NVIDIA_VISIBLE_DEVICES=GPU-8f2e")),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, Asked()),  # the CUDA images' own default, on any node
        ({"NVIDIA_VISIBLE_DEVICES": "void"}, Asked()),
        ({"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}, Asked("cpu")),
        ({"CUDA_VISIBLE_DEVICES": "1"}, Asked()),
    ],
)
def test_what_a_worker_was_told_is_read_from_its_environment(environment, asked):
    assert asked_of(environment) == asked


@pytest.mark.parametrize("changed", ["product", "torch", "kernels"])
def test_strict_runs_refuse_workers_that_would_give_other_bits(changed):
    planned = Numerics(dtype="Float32", device_kind="cpu", strict=True, product="p", torch="t", kernels="k")
    found = {"product": "p", "torch": "t", "kernels": "k"}
    check_strict(planned, **found)
    with pytest.raises(RunError) as refused:
        check_strict(planned, **(found | {changed: "another"}))
    assert refused.value.reason is OTHER
    assert f"{changed} {getattr(planned, changed)}" in refused.value.message


def test_the_figures_of_a_gpu_are_those_of_the_worker_s_own():
    assert visible_name({}) == "0"
    assert visible_name({"EVALFLEET_DEVICE": "cuda:3"}) == "3"
    assert visible_name({"EVALFLEET_DEVICE": "cuda:1", "CUDA_VISIBLE_DEVICES": "4,GPU-7"}) == "GPU-7"
    assert visible_name({"EVALFLEET_DEVICE": "cpu", "CUDA_VISIBLE_DEVICES": "GPU-7"}) == "GPU-7"


def test_the_command_devices_tells_what_is_there_without_a_run():
    done = subprocess.run(
        [sys.executable, "-m", "evalfleet_worker", "devices"], capture_output=True, check=True, env=dict(os.environ)
    )
    report = json.loads(done.stdout)
    assert report["torch"]
    assert all(device["product"] and device["device"].startswith("cuda:") for device in report["devices"])
