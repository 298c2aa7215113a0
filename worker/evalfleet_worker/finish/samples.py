"""The per-sample files of an evaluation: the same rows give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalfleet_worker.harness.interface import Call
from evalfleet_worker.requests import Answer


def write_samples(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Parquet of the rows; columns are those of the first row, in their order."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()


def write_unscored(calls: Mapping[Call, Sequence[int]], answers: Mapping[int, Answer]) -> bytes:
    """Parquet of the answers to an evaluation whose metrics failed, so that its work is not lost: one row per part."""
    rows = [
        {"type": str(kind), "call_index": index, "part": part, **asdict(answers[row])}
        for (kind, index), members in calls.items()
        for part, row in enumerate(members)
        if row in answers
    ]
    return write_samples(rows)
