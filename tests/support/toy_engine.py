"""Engines without a model: quick, deterministic, and wicked on demand (by environment variables of the worker)."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from evalfleet_worker.protocol import FailureReason, RunError, RunSpec
from evalfleet_worker.requests import Answer, Request


class ToyEngine:
    """Answers every row with a number of its own after a short pause."""

    device = "toy"
    fingerprint = os.environ.get("TOY_FINGERPRINT", "")

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        poison = os.environ.get("TOY_POISON_ROW")
        if poison is not None and any(request.row == int(poison) for request in requests):
            os.kill(os.getpid(), signal.SIGSEGV)
        bad = os.environ.get("TOY_RAISE_ROW")
        if bad is not None and any(request.row == int(bad) for request in requests):
            raise ValueError(f"row {bad} cannot be scored")
        misfit = os.environ.get("TOY_MISFIT_ROW")
        if misfit is not None and any(request.row == int(misfit) for request in requests):
            raise RunError(FailureReason.INVALID_TASK, f"row {misfit} asks for what nobody can do")
        greedy = os.environ.get("TOY_OUT_OF_MEMORY_ROW")
        if greedy is not None and any(request.row == int(greedy) for request in requests):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does to who takes too much
        time.sleep(float(os.environ.get("TOY_SECONDS", "0.05")))
        return [
            Answer(request.row, log_probability=-request.row / 3, is_greedy=request.row % 2 == 0)
            for request in requests
        ]


def make(run: RunSpec, cache: Path) -> ToyEngine:
    """Engine factory."""
    return ToyEngine()


class SickEngine(ToyEngine):
    """On a device that is lost: every call fails, however often it is tried."""

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


class HangingEngine(ToyEngine):
    """Does not answer; with TOY_HANG_ONCE, the path of a file, only until that file holds a process id."""

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        once = os.environ.get("TOY_HANG_ONCE")
        if once is not None and Path(once).exists():
            return super().score(requests)
        if once is not None:
            Path(once).write_text(str(os.getpid()))
        time.sleep(3_600.0)
        raise AssertionError


def sick(run: RunSpec, cache: Path) -> SickEngine:
    """Loads, and fails everything."""
    return SickEngine()


def hang(run: RunSpec, cache: Path) -> HangingEngine:
    """Loads, and does not answer."""
    return HangingEngine()


def without_device(run: RunSpec, cache: Path) -> ToyEngine:
    """A factory that finds its device gone."""
    raise RuntimeError("CUDA error: no CUDA-capable device is detected")


def refuse(run: RunSpec, cache: Path) -> ToyEngine:
    """A factory that can never load the model."""
    raise RunError(FailureReason.INVALID_MODEL_REF, "no model at this path: name another")


def fail(run: RunSpec, cache: Path) -> ToyEngine:
    """A factory that fails with an error that says why."""
    raise KeyError("model.layers.0.weight")


def die(run: RunSpec, cache: Path) -> ToyEngine:
    """A factory that dies while it loads."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
