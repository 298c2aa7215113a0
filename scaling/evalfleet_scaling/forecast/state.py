"""A forecaster as bytes and back: numpy arrays in a zip, no pickle, versioned, below 1 MB.

What is saved is memory only: arrays of the running statistics, the recent series, the trees. The structure is built by
the constructor and every array must fit it in shape and type, so that a damaged or hostile file is refused, not run.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import Any

import numpy as np

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.boosting import HISTORY_MINUTES, Boosted, train
from evalfleet_scaling.forecast.features import FEATURES
from evalfleet_scaling.forecast.forecaster import Forecaster, Trainer
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.trees import LEAVES, SPLITS, TREES, Forest

VERSION = 3
LARGEST_UNPACKED = 16 * 1024 * 1024
FOREST_ARRAYS: dict[str, tuple[tuple[int, ...], Any]] = {
    "feature": ((TREES, SPLITS), np.uint8),
    "threshold": ((TREES, SPLITS), np.float32),
    "leaves": ((TREES, SPLITS), np.uint16),
    "value": ((TREES, LEAVES), np.float32),
}


class InvalidStateError(ScalingInputError):
    """Saved bytes are not a forecaster of this version, or were damaged."""


def dump(forecaster: Forecaster) -> bytes:
    """Everything needed to continue with the same numbers; catches up with what was learnt first."""
    forecaster.catch_up()
    header = {
        "version": VERSION,
        "setup": asdict(forecaster.setup),
        "members": forecaster.members,
        "startMinute": forecaster.start_minute,
        "seen": forecaster.seen,
        "retrainAt": forecaster.retrain_at,
        "alarmsServed": forecaster.alarms_served,
    }
    arrays = dict(_memory(_parts(forecaster)))
    arrays["history"] = forecaster.history[-HISTORY_MINUTES:].astype(np.float32)
    arrays["latest"] = forecaster.latest
    arrays |= boosted_arrays(forecaster.trees.boosted)
    out = io.BytesIO()
    np.savez_compressed(out, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
    return out.getvalue()


def load(data: bytes, trainer: Trainer | None = train) -> Forecaster:
    """The forecaster that `dump` saved.

    Raises:
        InvalidStateError: not such bytes, another version, or arrays that do not fit.
    """
    try:
        arrays = _unpack(data)
        header = json.loads(str(arrays["header"][()]))
        if header["version"] != VERSION:
            raise InvalidStateError(f"state of version {header['version']}, this program writes {VERSION}: start anew")
        return _restore(header, arrays, trainer)
    except (KeyError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile) as problem:
        if isinstance(problem, InvalidStateError):
            raise
        raise InvalidStateError(f"not a saved forecaster: {problem}") from problem


def _unpack(data: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        size = sum(entry.file_size for entry in packed.infolist())
    if size > LARGEST_UNPACKED:
        raise InvalidStateError(f"state unpacks to {size} bytes, more than {LARGEST_UNPACKED}")
    with np.load(io.BytesIO(data), allow_pickle=False) as packed:
        return {name: packed[name] for name in packed.files}


def _restore(header: dict[str, Any], arrays: dict[str, np.ndarray], trainer: Trainer | None) -> Forecaster:
    kept = header["setup"]
    setup = Setup(tuple(kept["horizons"]), tuple(kept["quantiles"]), kept["typical_job"], kept["declared"])
    forecaster = Forecaster(setup, int(header["startMinute"]), trainer, tuple(header["members"]))
    for name, place in list(_memory(_parts(forecaster))):
        _copy_into(name, place, arrays[name])
    _copy_into("latest", forecaster.latest, arrays["latest"])
    history = arrays["history"]
    if history.ndim != 1 or history.dtype != np.float32 or len(history) > HISTORY_MINUTES or np.isinf(history).any():
        raise InvalidStateError("history: not a series of at most 22 days")
    forecaster.history = history.astype(np.float64)
    forecaster.seen, forecaster.retrain_at = int(header["seen"]), int(header["retrainAt"])
    forecaster.alarms_served = int(header["alarmsServed"])
    forecaster.trees.boosted = boosted_from_arrays(arrays, setup)
    return forecaster


def _parts(forecaster: Forecaster) -> dict[str, Any]:
    return {
        "simple": forecaster.simple,
        "calibration": forecaster.calibration,
        "mix": forecaster.mix,
        "recalibration": forecaster.recalibration,
        "drift": forecaster.drift,
        "jobs": forecaster.job_size,
    }


def _memory(part: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Every array below a part with its path: dataclass fields, list entries, dictionary values."""
    if isinstance(part, np.ndarray):
        yield path, part
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from _memory(value, f"{path}/{key}")
    elif isinstance(part, list):
        for index, value in enumerate(part):
            yield from _memory(value, f"{path}/{index}")
    elif is_dataclass(part) and not isinstance(part, Setup):
        for field in fields(part):
            yield from _memory(getattr(part, field.name), f"{path}/{field.name}")


def _copy_into(name: str, place: np.ndarray, saved: np.ndarray) -> None:
    if saved.shape != place.shape or saved.dtype != place.dtype:
        raise InvalidStateError(f"{name}: {saved.dtype} {saved.shape} does not fit {place.dtype} {place.shape}")
    place[...] = saved


def boosted_arrays(boosted: Boosted | None) -> dict[str, np.ndarray]:
    """Trees as named arrays; none for no trees."""
    if boosted is None:
        return {}
    stacked = {f"trees/{name}": np.stack([getattr(one, name) for one in boosted.forests]) for name in FOREST_ARRAYS}
    baseline = np.array([one.baseline for one in boosted.forests])
    return stacked | {"trees/baseline": baseline, "trees/typical": np.array([boosted.typical])}


def boosted_from_arrays(arrays: dict[str, np.ndarray], setup: Setup) -> Boosted | None:
    """What `boosted_arrays` gave; None where there are no trees.

    Raises:
        InvalidStateError: shapes or types do not fit the setup.
    """
    if "trees/typical" not in arrays:
        return None
    count = 2 * len(setup.horizons) * len(setup.quantiles)
    wanted = {**FOREST_ARRAYS, "baseline": ((), np.float64)}
    parts = {name: np.empty((count, *shape), dtype=kind) for name, (shape, kind) in wanted.items()}
    for name, place in parts.items():
        _copy_into(f"trees/{name}", place, arrays[f"trees/{name}"])
    if (parts["feature"] >= FEATURES).any():
        raise InvalidStateError(f"trees/feature: a tree asks for a feature beyond {FEATURES}")
    typical = np.empty(1)
    _copy_into("trees/typical", typical, arrays["trees/typical"])
    forests = (
        Forest(parts["feature"][i], parts["threshold"][i], parts["leaves"][i], parts["value"][i], float(baseline))
        for i, baseline in enumerate(parts["baseline"])
    )
    return Boosted(tuple(forests), float(typical[0]))
