"""The per-sample file of an evaluation: the same rows give the same bytes."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def write_samples(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Parquet of the rows; columns are those of the first row, in their order."""
    table = pa.Table.from_pylist([dict(row) for row in rows])
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()
