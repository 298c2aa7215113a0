"""Reading the data files of a run: csv, jsonl and parquet below `data.uri`, as columns of Python values."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from evalfleet_worker.harness.data import data_folder
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec

Columns = Mapping[str, Sequence[Any]]


def read_columns(run: RunSpec, dataset: str, wanted: Sequence[str], limit: int | None = None) -> Columns:
    """The wanted columns of a data file.

    Args:
        run: for its data folder.
        dataset: path below `data.uri`, ending in .csv, .tsv, .jsonl or .parquet.
        wanted: column names.
        limit: rows from the start; None = all.

    Raises:
        RunError: DATASET_UNREADABLE, naming the columns there are when one is missing.
    """
    path = _path(run, dataset)
    try:
        rows = READERS[path.suffix](path)
    except RunError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise _unreadable(f"{dataset}: cannot be read as {path.suffix[1:]}: {error}") from error
    if not rows:
        raise _unreadable(f"{dataset} has no rows")
    missing = [name for name in wanted if name not in rows[0]]
    if missing:
        raise _unreadable(f"{dataset} has no column {missing[0]!r}; its columns are {', '.join(map(repr, rows[0]))}")
    for number, row in enumerate(rows[:limit], start=1):
        empty = [name for name in wanted if row.get(name) is None]
        if empty:
            raise _unreadable(f"{dataset}: row {number} has no value in column {empty[0]!r}")
    return {name: [row[name] for row in rows[:limit]] for name in wanted}


def _path(run: RunSpec, dataset: str) -> Path:
    folder = data_folder(run)
    if folder is None:
        raise _unreadable(f"{dataset}: set data.uri to the folder that holds it")
    if PurePosixPath(dataset).is_absolute() or ".." in PurePosixPath(dataset).parts:
        raise _unreadable(f"{dataset}: must be a path below data.uri, without `..`")
    path = folder / dataset
    if not path.is_file():
        raise _unreadable(f"{dataset}: there is no such file below {run.data_uri}")
    if path.suffix not in READERS:
        raise _unreadable(f"{dataset}: expected a file ending in {', '.join(READERS)}")
    return path


def _unreadable(message: str) -> RunError:
    return RunError(FailureReason.DATASET_UNREADABLE, message)


def _read_csv(path: Path, delimiter: str = ",") -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter, strict=True))


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text("utf-8-sig").split("\n")  # not splitlines: a text may hold other line ends, as U+2028
    rows = [json.loads(line) for line in lines if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("every line must be a JSON object")
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


READERS = {
    ".csv": _read_csv,
    ".tsv": lambda path: _read_csv(path, "\t"),
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
