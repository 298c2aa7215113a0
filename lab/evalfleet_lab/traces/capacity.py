"""Discover spot availability and price traces below a folder, by the shape of the files, never by their names.

Understood shapes:

* JSON ``{"metadata": {"gap_seconds": 300}, "data": [16, 12, ...]}``: counts of one pool;
* CSV ``date,availability``: one pool, 1 = available;
* CSV with a time column (ISO timestamps, or numbers where it is named seconds), one integer column per zone and, where
  a zone has prices, ``<zone>_price``: several pools of one group;
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

from evalfleet_lab.simulate.trace import FloatArray, SpotTrace

DATA_VARIABLE = "EVALFLEET_DATA"
DEFAULT_DATA = Path("../shared/data")
_PRICE = "_price"
_SHAPES = (
    "Expected CSV 'date,availability', CSV with a time column, one integer column per zone and prices as <zone>_price, "
    'or JSON {"metadata": {"gap_seconds": 300}, "data": [counts]}'
)
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
    """The traces of one file of the user's; ValueError says what is wrong, or which shapes are understood."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a CSV or JSON file of spot counts, or none for a synthetic pool")
    try:
        found = _parse_csv(path, path.stem) if path.suffix == ".csv" else _read_json(path, path.stem)[0]
    except ValueError as error:
        raise ValueError(f"{path}: {error}. {_SHAPES}") from error
    if not found:
        raise ValueError(f"{path}: not a spot trace. {_SHAPES}")
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
    try:
        return _parse_csv(path, group)
    except ValueError:
        return []


def _parse_csv(path: Path, group: str) -> list[SpotTrace]:
    """Traces of a table with a time column; nothing for a table without; ValueError names what cannot be read."""
    with path.open(encoding="utf-8", newline="", errors="replace") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        if len(header) < 2 or not _looks_like_time_column(header[0]):
            return []
        rows = [(reader.line_num, row) for row in reader if row]
    in_seconds = "seconds" in header[0].lower()
    times, cells = [], []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(f"line {line} has {len(row)} columns, the header {len(header)}")
        try:
            times.append(float(row[0]) if in_seconds else datetime.fromisoformat(row[0]).timestamp())
            cells.append([float(cell) for cell in row[1:]])
        except ValueError as error:
            raise ValueError(f"line {line}: {error}") from error
    tick = _regular_tick_seconds(times)
    if tick is None:
        raise ValueError(f"the times in column {header[0]!r} are not two or more rows of one step, 10 s or longer")
    return _columns_as_traces(path, group, tick, dict(zip(header[1:], np.array(cells).T, strict=True)))


def _columns_as_traces(path: Path, group: str, tick: float, columns: dict[str, FloatArray]) -> list[SpotTrace]:
    traces = []
    for name, values in columns.items():
        if name.endswith(_PRICE) and name.removesuffix(_PRICE) in columns:
            continue
        if not np.array_equal(values, np.floor(values)):
            raise ValueError(f"column {name!r} must hold whole numbers of workers; prices go into <zone>{_PRICE}")
        pool = path.stem if list(columns) == ["availability"] else name
        traces.append(SpotTrace(pool, group, tick, values.astype(np.int64), columns.get(name + _PRICE)))
    return traces


def _looks_like_time_column(name: str) -> bool:
    return any(word in name.lower() for word in ("date", "time", "seconds", "_at"))


def _regular_tick_seconds(times: list[float]) -> float | None:
    """The step of a regular grid of at least 10 s; None for anything else, such as a log of arrivals."""
    if len(times) < 2:
        return None
    steps = np.diff(np.asarray(times))
    tick = float(np.median(steps))
    regular = float(np.mean(np.abs(steps - tick) <= 0.05 * tick))
    return tick if tick >= 10 and regular >= 0.9 else None


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
