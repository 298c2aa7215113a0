"""Reading one data file of a run as columns: csv, jsonl and parquet below `data.uri`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from evalfleet_worker.harness.data import data_folder
from evalfleet_worker.harness.datafiles import read_rows, unreadable
from evalfleet_worker.harness.rows import Part, Rows, missing_value
from evalfleet_worker.protocol import RunSpec

Columns = Mapping[str, Sequence[Any]]


def read_columns(run: RunSpec, dataset: str, wanted: Sequence[str], limit: int | None = None) -> Columns:
    """The wanted columns of a data file.

    Args:
        run: for its data folder, and for what words of a CSV file mean.
        dataset: path below `data.uri`, ending in .csv, .tsv, .jsonl or .parquet.
        wanted: column names.
        limit: rows from the start; None = all.

    Raises:
        RunError: DATASET_UNREADABLE, naming the columns there are when one is missing, or row and column of a value.
    """
    path = _path(run, dataset)
    rows = READERS[path.suffix](dataset, path, run.na_values == "Keep")
    missing = [name for name in wanted if name not in rows.features]
    if missing:
        raise unreadable(
            f"{dataset} has no column {missing[0]!r}; its columns are {', '.join(map(repr, rows.features))}"
        )
    chosen = rows[:limit]
    for index, row in enumerate(chosen):
        for name in wanted:
            if rows.lacks(row[name]):
                raise unreadable(missing_value(rows.place(index), name, row[name]))
    return {name: [row[name] for row in chosen] for name in wanted}


def _path(run: RunSpec, dataset: str) -> Path:
    folder = data_folder(run)
    if folder is None:
        raise unreadable(f"{dataset}: set data.uri to the folder that holds it")
    if PurePosixPath(dataset).is_absolute() or ".." in PurePosixPath(dataset).parts:
        raise unreadable(f"{dataset}: must be a path below data.uri, without `..`")
    path = folder / dataset
    if not path.is_file():
        raise unreadable(f"{dataset}: there is no such file below {run.data_uri}")
    if path.suffix not in READERS:
        raise unreadable(f"{dataset}: expected a file ending in {', '.join(READERS)}")
    return path


def _read_text_file(kind: str, **options: Any) -> Callable[[str, Path, bool], Rows]:
    return lambda name, path, keep_na: read_rows(kind, [(name, path)], options, keep_na)


def _read_parquet(name: str, path: Path, _keep_na: bool) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(f"{name} cannot be read as parquet: {error}") from error
    if not table.num_rows:
        raise unreadable(f"{name} has no rows")
    return Rows(table.to_pylist(), table.column_names, [Part(name, table.num_rows)])


READERS: Mapping[str, Callable[[str, Path, bool], Rows]] = {
    ".csv": _read_text_file("csv"),
    ".tsv": _read_text_file("csv", delimiter="\t"),
    ".jsonl": _read_text_file("json"),
    ".parquet": _read_parquet,
}
