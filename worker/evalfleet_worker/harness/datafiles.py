"""Reading data files as they are written: csv, json, text, parquet and arrow.

The loaders of `datasets` guess: they make dates of text, None of the word `None`, and patterns of file names. A guess
that changes a gold answer shows as a score of zero, so nothing is guessed here; what is doubtful is refused.
"""

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.harness.rows import NA_WORDS, Part, Rows
from evalfleet_worker.protocol import FailureReason, RunError

LARGEST_CELL = 2**31 - 1
Reader = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]


def read_rows(kind: str, files: Sequence[tuple[str, Path]], options: Mapping[str, Any], keep_na: bool) -> Rows:
    """The rows of text files of one kind (`csv`, `json` or `text`), as one data set.

    Args:
        kind: a key of `READERS`.
        files: (name for people, path) of each file, in order.
        options: of the kind: delimiter, column_names, field; and encoding.
        keep_na: words of a CSV file that pandas takes for a missing value are text.

    Raises:
        RunError: DATASET_UNREADABLE, naming file and row.
    """
    parts, rows = [], []
    for name, path in files:
        found = _read_file(kind, name, path, options)
        parts.append(Part(name, len(found)))
        rows += found
    if not rows:
        raise unreadable(f"{', '.join(name for name, _ in files)} has no rows")
    features = dict.fromkeys(column for row in rows for column in row)
    return Rows(rows, features, parts, NA_WORDS if kind == "csv" and not keep_na else frozenset())


def unreadable(message: str) -> RunError:
    """The refusal of a data file."""
    return RunError(FailureReason.DATASET_UNREADABLE, message)


def _read_file(kind: str, name: str, path: Path, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        return READERS[kind](_text(path, options.get("encoding")), options)
    except UnicodeDecodeError as error:
        raise unreadable(
            f"{name} is not {error.encoding} (byte {error.object[error.start]:#04x} at {error.start}): "
            "save it as UTF-8, or name its encoding in dataset_kwargs.encoding"
        ) from error
    except (OSError, EOFError, ValueError, TypeError, LookupError, RecursionError, csv.Error) as error:
        raise unreadable(f"{name} cannot be read as {path.suffix[1:] or kind}: {error}") from error


def _text(path: Path, encoding: str | None) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    return content.decode(encoding or "utf-8-sig")


def _read_csv(text: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    csv.field_size_limit(LARGEST_CELL)
    delimiter = options.get("delimiter") or ","
    lines = [cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if cells]
    names = options.get("column_names") or (lines.pop(0) if lines else [])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"column {twice[0]!r} stands twice in the header")
    for number, cells in enumerate(lines, start=1):
        if len(cells) > len(names):
            raise ValueError(
                f"row {number} has {len(cells)} cells, the header {len(names)}: quote cells that hold {delimiter!r}"
            )
    return [dict(zip(names, cells, strict=False)) for cells in lines]


def convert_columns(rows: Rows) -> None:
    """Make numbers and truth values of text columns whose every cell reads back as it is written.

    Cells that may mean a missing value are left as they are: who uses the column is told of them.
    """
    for column in rows.features:
        present = [row for row in rows if not rows.lacks(row[column])]
        convert = next((c for c in CONVERSIONS if all(_reads_back(c, row[column]) for row in present)), None)
        for row in present if convert else ():
            row[column] = convert(row[column])  # type: ignore[misc]  # not None here


def _truth(cell: str) -> bool:
    return {"True": True, "False": False}[cell]


def _finite(cell: str) -> float:
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


CONVERSIONS: tuple[Callable[[str], Any], ...] = (int, _finite, _truth)


def _reads_back(convert: Callable[[str], Any], cell: Any) -> bool:
    try:
        return isinstance(cell, str) and str(convert(cell)) == cell
    except (ValueError, KeyError):
        return False


def _read_json(text: str, options: Mapping[str, Any]) -> list[dict[str, Any]]:
    field = options.get("field")
    if field is not None:
        whole = _parse(text)
        if not isinstance(whole, dict) or field not in whole:
            raise ValueError(f"it has no member {field!r}, which dataset_kwargs.field names")
        return _members(whole[field])
    if text.lstrip().startswith("["):
        return _members(_parse(text))
    try:
        return list(_json_lines(text))
    except ValueError:
        whole = _whole(text)
        if whole is None:
            raise
        return _members(whole)


def _whole(text: str) -> Any:
    """The one JSON value that a text of several lines may be; None when it is none."""
    try:
        return _parse(text)
    except ValueError:
        return None


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: a text may hold U+2028
        if not line.strip():
            continue
        try:
            row = _parse(line)
        except ValueError as error:
            raise ValueError(f"line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"line {number} must be a JSON object")  # noqa: TRY004 - of the file, not of the program
        yield row


def _members(value: Any) -> list[dict[str, Any]]:
    """Rows of a list of objects, or of an object of columns."""
    if isinstance(value, dict) and value and all(isinstance(member, list) for member in value.values()):
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise ValueError("every row must be a JSON object; see dataset_kwargs.field for rows within an object")
    return value


def _parse(text: str) -> Any:
    value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant)
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice in an object")
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _read_text(text: str, _options: Mapping[str, Any]) -> list[dict[str, Any]]:
    lines = text.replace("\r\n", "\n").split("\n")
    return [{"text": line} for line in (lines if lines[-1] else lines[:-1])]


READERS: Mapping[str, Reader] = {"csv": _read_csv, "json": _read_json, "text": _read_text}
