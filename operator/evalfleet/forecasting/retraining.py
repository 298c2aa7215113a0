"""Training of the forecast's trees off the hot path: in a child process, with one thread and a time limit.

The child gets the training set on stdin and answers with plain arrays; both are numpy files without pickle. Whatever
goes wrong there (time, memory, a bug of a library) costs one day with the old trees and nothing else.
"""

import io
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import numpy as np

from evalfleet_scaling.forecast.boosting import Boosted, TrainingSet, train
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.state import InvalidStateError, boosted_arrays, boosted_from_arrays
from evalfleet_scaling.forecast.window import Window

LIMIT_SECONDS = 60.0
"""Wall clock, start of the interpreter and its imports included; the training itself takes a few seconds."""


def train_in_child(training: TrainingSet, limit_seconds: float = LIMIT_SECONDS) -> Boosted | None:
    """A trainer that never blocks for longer than the limit and never raises; None keeps the old trees."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    path = {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    try:
        child = subprocess.run(
            [sys.executable, "-m", "evalfleet.forecasting.retraining"],
            input=pack_training(training),
            capture_output=True,
            timeout=limit_seconds,
            check=False,
            env={**os.environ, **threads, **path},
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    if child.returncode != 0 or not child.stdout:
        return None
    try:
        with np.load(io.BytesIO(child.stdout), allow_pickle=False) as arrays:
            return boosted_from_arrays({name: arrays[name] for name in arrays.files}, training.setup)
    except (InvalidStateError, KeyError, ValueError, OSError):
        return None


def pack_training(training: TrainingSet) -> bytes:
    """A training set as bytes."""
    out = io.BytesIO()
    window = training.window
    setup: dict[str, Any] = {f"setup_{name}": np.asarray(value) for name, value in asdict(training.setup).items()}
    place = np.array([window.first, window.minute], dtype=np.int64)
    np.savez(out, allow_pickle=False, values=window.values, place=place, typical=training.typical, **setup)
    return out.getvalue()


def unpack_training(data: bytes) -> TrainingSet:
    """What `pack_training` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        setup = Setup(
            tuple(int(horizon) for horizon in arrays["setup_horizons"]),
            tuple(float(level) for level in arrays["setup_quantiles"]),
            float(arrays["setup_typical_job"]),
            float(arrays["setup_declared"]),
        )
        first, minute = (int(number) for number in arrays["place"])
        return TrainingSet(setup, Window(arrays["values"], first, minute), float(arrays["typical"]))


def main() -> None:
    """The child: training set in, trees out; nothing out where there is too little to learn from."""
    _without_data_frames()
    boosted = train(unpack_training(sys.stdin.buffer.read()))
    if boosted is not None:
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **boosted_arrays(boosted))
        sys.stdout.buffer.write(out.getvalue())


def _without_data_frames() -> None:
    """scikit-learn imports pandas and pyarrow wherever they are installed: 60 MB that plain arrays never use."""
    for name in ("pandas", "pyarrow"):
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
