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
        time.sleep(float(os.environ.get("TOY_SECONDS", "0.05")))
        return [
            Answer(request.row, log_probability=-request.row / 3, is_greedy=request.row % 2 == 0)
            for request in requests
        ]


def make(run: RunSpec, cache: Path) -> ToyEngine:
    """Engine factory."""
    return ToyEngine()


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
