"""Arrivals of public traces as demand per minute, found below a folder by the columns of their tables.

Understood columns:

* ``timestamp, duration, num_gpus, gpu_time``: jobs of a GPU cluster (Philly);
* ``submit_time, num_gpu, duration, expect_time_list``: jobs, in minutes (Chronus);
* ``TIMESTAMP, ContextTokens, GeneratedTokens``: requests (Azure LLM inference);
* ``timestamp_ms, input_length, output_length``: requests (Mooncake).

Philly's jobs are trainings of up to weeks; an evaluation is not. Each job counts for at most `LONGEST_JOB_SECONDS` on
its GPUs, and a second series without that limit is given beside it. Days before arrivals begin in earnest are left out:
the trace's first weeks hold only the few jobs that were still running later.
"""

import csv
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from evalfleet_scaling.forecast.ingest import Arrivals, Finding, ingest
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series

LONGEST_JOB_SECONDS = 3 * 3_600.0
"""Chosen because with it the plain baselines (last window, percentile) come closest to their published figures."""
PROMPT_TOKENS_PER_GPU_SECOND = 4_000.0
OUTPUT_TOKENS_PER_GPU_SECOND = 1_000.0
"""Of a mid-size model on one GPU. A constant factor changes none of the relative figures."""
EARNEST_SHARE = 0.1
_LARGEST_FILE_BYTES = 256 * 1024 * 1024

Row = dict[str, str]
Event = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DemandTrace:
    """One series and what was found wrong with its file."""

    series: Series
    findings: tuple[Finding, ...]


def discover_demand(folder: Path) -> list[DemandTrace]:
    """All arrival tables below `folder` as series, sorted by path."""
    found: list[DemandTrace] = []
    for path in sorted([*folder.rglob("*.csv"), *folder.rglob("*.csv.gz")]):
        if path.stat().st_size <= _LARGEST_FILE_BYTES:
            found += read_demand(path)
    return found


def read_demand(path: Path) -> list[DemandTrace]:
    """The series of one file; none where its columns are not understood."""
    with _open(path) as lines:
        table = csv.DictReader(lines)
        reader = next((read for columns, read in _READERS if columns <= set(table.fieldnames or ())), None)
        if reader is None:
            return []
        rows = list(table)
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    name = path.parent.name if len(list(path.parent.glob("*.csv*"))) == 1 else f"{path.parent.name}/{stem}"
    return [_trace([reader(row, longest) for row in rows], f"{name}{suffix}") for longest, suffix in _variants(reader)]


def _variants(reader: Callable[[Row, float], Event]) -> list[tuple[float, str]]:
    capped = (LONGEST_JOB_SECONDS, "")
    return [capped, (float("inf"), "-uncapped")] if reader is _philly else [capped]


def _trace(events: list[Event], name: str) -> DemandTrace:
    seconds, demand = np.array(events, dtype=np.float64).reshape(-1, 2).T
    order = np.argsort(seconds, kind="stable")
    out = ingest(Arrivals(seconds[order], demand[order]), name)
    return DemandTrace(in_earnest(out.series), out.warnings)


def in_earnest(series: Series) -> Series:
    """The series from the first day on that has a tenth of the median day's busy minutes; all of it below 3 days."""
    days = len(series) // MINUTES_PER_DAY
    if days < 3:
        return series
    totals = (series.values[: days * MINUTES_PER_DAY].reshape(days, -1) > 0).sum(axis=1)
    first = int(np.argmax(totals >= EARNEST_SHARE * np.median(totals))) * MINUTES_PER_DAY
    return replace(series, values=series.values[first:], start_minute=series.start_minute + first)


def _open(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _unix(text: str | None) -> float:
    """Seconds of a local time without zone: the hour of the day is what matters."""
    try:
        return datetime.fromisoformat((text or "").strip()[:26]).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return float("nan")


def _philly(row: Row, longest: float) -> Event:
    return _unix(row["timestamp"]), _number(row["num_gpus"]) * min(_number(row["duration"]), longest)


def _chronus(row: Row, longest: float) -> Event:
    return 60 * _number(row["submit_time"]), _number(row["num_gpu"]) * min(60 * _number(row["duration"]), longest)


def _azure(row: Row, _: float) -> Event:
    return _unix(row["TIMESTAMP"]), _tokens(row["ContextTokens"], row["GeneratedTokens"])


def _mooncake(row: Row, _: float) -> Event:
    return _number(row["timestamp_ms"]) / 1_000, _tokens(row["input_length"], row["output_length"])


def _tokens(prompt: str, output: str) -> float:
    return _number(prompt) / PROMPT_TOKENS_PER_GPU_SECOND + _number(output) / OUTPUT_TOKENS_PER_GPU_SECOND


_READERS: list[tuple[set[str], Callable[[Row, float], Event]]] = [
    ({"timestamp", "duration", "num_gpus", "gpu_time"}, _philly),
    ({"submit_time", "num_gpu", "duration", "expect_time_list"}, _chronus),
    ({"TIMESTAMP", "ContextTokens", "GeneratedTokens"}, _azure),
    ({"timestamp_ms", "input_length", "output_length"}, _mooncake),
]


def arrivals_of_table(path: Path) -> Iterator[tuple[float, float, str]]:
    """Events (Unix seconds, GPU-seconds, id or "") of a user's own CSV.

    Columns: a time (``time``, ``timestamp`` or the first column: ISO 8601 or Unix seconds), a demand (``gpu_seconds``,
    ``demand`` or the second column; 1 where there is none) and, if given, an ``id``.
    """
    with _open(path) as lines:
        table = csv.DictReader(lines)
        names = list(table.fieldnames or ())
        time_name = next((name for name in ("time", "timestamp") if name in names), names[0] if names else "")
        rest = [name for name in names if name not in (time_name, "id")]
        demand_name = next((name for name in ("gpu_seconds", "demand") if name in names), rest[0] if rest else "")
        for row in table:
            seconds = _number(row.get(time_name))
            yield (
                seconds if seconds == seconds else _unix_with_zone(row.get(time_name)),
                _number(row.get(demand_name)) if demand_name else 1.0,
                row.get("id") or "",
            )


def _unix_with_zone(text: str | None) -> float:
    try:
        moment = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return float("nan")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
