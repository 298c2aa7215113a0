"""Discover spot availability and price traces below a folder, by the shape of the files, never by their names.

Understood shapes:

* JSON ``{"metadata": {"gap_seconds": 300}, "data": [16, 12, ...]}``: counts of one pool;
* CSV ``date,availability``: one pool, 1 = available;
* CSV with a time column and one integer column per zone: several pools of one group;
* JSON ``{"<pool>": [1.67, ...], ...}``: price per hour of pools, tick by tick;
* JSON with ``region``, ``machine_type`` and ``price``: one price per hour for all zones of a region.
"""

import csv
import json
import os
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from evalfleet_scaling.simulate.trace import SpotTrace

DATA_VARIABLE = "EVALFLEET_DATA"
DEFAULT_DATA = Path("../shared/data")
_LARGEST_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Prices:
    """Prices found in one file: per pool and tick, or one for all zones whose name begins with the region."""

    folder: Path
    per_tick: dict[str, list[float]]
    per_region: dict[str, float]


def data_folder() -> Path | None:
    """Folder of the public data, from EVALFLEET_DATA or the default beside the checkout; None when absent."""
    named = os.environ.get(DATA_VARIABLE)
    folder = Path(named) if named else DEFAULT_DATA
    return folder if folder.is_dir() else None


def discover_spot_traces(folder: Path) -> list[SpotTrace]:
    """All spot traces below `folder`, prices joined where found, sorted by group and name."""
    traces: list[tuple[Path, SpotTrace]] = []
    prices: list[_Prices] = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.stat().st_size > _LARGEST_FILE_BYTES:
            continue
        group = path.parent.relative_to(folder).as_posix()
        if path.suffix == ".json":
            found, priced = _read_json(path, group)
            prices += [priced] if priced else []
        elif path.suffix == ".csv":
            found = _read_csv(path, group)
        else:
            continue
        traces += [(path, trace) for trace in found]
    return [_with_price(path, trace, prices) for path, trace in traces]


def load_trace_file(path: Path) -> list[SpotTrace]:
    """The traces of one file of the user's; ValueError says which shapes are understood."""
    found = _read_csv(path, path.stem) if path.suffix == ".csv" else _read_json(path, path.stem)[0]
    if not found:
        raise ValueError(
            f"{path}: not a spot trace. Expected CSV 'date,availability', CSV with a time column and one integer "
            'column per zone, or JSON {"metadata": {"gap_seconds": 300}, "data": [counts]}'
        )
    return found


def _read_json(path: Path, group: str) -> tuple[list[SpotTrace], _Prices | None]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        return [], None
    if not isinstance(content, dict):
        return [], None
    metadata = content.get("metadata")
    if isinstance(metadata, dict) and "gap_seconds" in metadata and isinstance(content.get("data"), list):
        counts = np.asarray(content["data"], dtype=np.int64)
        return [SpotTrace(path.stem, group, float(metadata["gap_seconds"]), counts)], None
    if {"region", "machine_type", "price"} <= content.keys():
        return [], _Prices(path.parent, {}, {str(content["region"]): float(content["price"])})
    if content and all(isinstance(series, list) and series for series in content.values()):
        try:
            return [], _Prices(path.parent, {k: [float(x) for x in v] for k, v in content.items()}, {})
        except (TypeError, ValueError):
            return [], None
    return [], None


def _read_csv(path: Path, group: str) -> list[SpotTrace]:
    with path.open(encoding="utf-8", newline="", errors="replace") as stream:
        reader = csv.reader(stream)
        header = next(reader, [])
        if len(header) < 2 or not _looks_like_time_column(header[0]):
            return []
        rows = [row for row in reader if len(row) == len(header)]
    try:
        times = [_seconds(row[0]) for row in rows]
        counts = np.asarray([[int(cell) for cell in row[1:]] for row in rows], dtype=np.int64)
    except ValueError:
        return []
    tick = _regular_tick_seconds(times)
    if tick is None:
        return []
    if header[1:] == ["availability"]:
        return [SpotTrace(path.stem, group, tick, counts[:, 0])]
    return [SpotTrace(zone, group, tick, counts[:, i]) for i, zone in enumerate(header[1:])]


def _looks_like_time_column(name: str) -> bool:
    return any(word in name.lower() for word in ("date", "time", "_at"))


def _regular_tick_seconds(times: list[float]) -> float | None:
    """The step of a regular grid of at least 10 s; None for anything else, such as a log of arrivals."""
    if len(times) < 2:
        return None
    steps = np.diff(np.asarray(times))
    tick = float(np.median(steps))
    regular = float(np.mean(np.abs(steps - tick) <= 0.05 * tick))
    return tick if tick >= 10 and regular >= 0.9 else None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _with_price(path: Path, trace: SpotTrace, prices: list[_Prices]) -> SpotTrace:
    """Join the prices of a file in the same folder, beside it, or one level above or below."""
    near = {path.parent, path.parent.parent, *(p.folder for p in prices if p.folder.parent == path.parent)}
    for found in prices:
        if found.folder not in near:
            continue
        series = found.per_tick.get(trace.name)
        if series is not None and len(series) >= len(trace.counts):
            return replace(trace, prices=np.asarray(series[: len(trace.counts)], dtype=np.float64))
        for region, price in found.per_region.items():
            if trace.name.startswith(region):
                return replace(trace, prices=np.full(len(trace.counts), price))
    return trace
