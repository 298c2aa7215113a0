"""Requests and answers as parquet: one row group per unit of requests, one file per unit of answers."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalfleet_worker.requests import Answer, Request, RequestType, Unit

REQUESTS = pa.schema(
    [
        ("row", pa.int64()),
        ("evaluation", pa.string()),
        ("type", pa.string()),
        ("call_index", pa.int32()),
        ("part", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("continuation_length", pa.int32()),
        ("arguments", pa.string()),
        ("key", pa.binary()),
        ("seed", pa.int64()),
    ]
)
ANSWERS = pa.schema(
    [
        ("row", pa.int64()),
        ("log_probability", pa.float64()),
        ("is_greedy", pa.bool_()),
        ("text", pa.string()),
        ("vector", pa.list_(pa.float64())),
        ("value", pa.string()),
    ]
)
COMPRESSION = "zstd"


def write_requests(units: Sequence[tuple[Unit, Sequence[Request]]]) -> bytes:
    """Parquet bytes with one row group per unit, in the units' order."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, REQUESTS, compression=COMPRESSION) as writer:
        for _, requests in units:
            writer.write_table(_request_table(requests), row_group_size=max(1, len(requests)))
    return sink.getvalue()


def requests_of(file: pq.ParquetFile, unit: Unit) -> list[Request]:
    """The requests of one unit: row group `unit.index`."""
    columns = file.read_row_group(unit.index).to_pydict()
    names = list(columns)
    return [_request(dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def requests_digest(requests: Sequence[Request]) -> str:
    """Hex digest (16 bytes) of a unit's requests: what was planned is what is scored."""
    digest = hashlib.blake2b(digest_size=16)
    for request in requests:
        head = (request.row, request.evaluation, str(request.type), request.call_index, request.part)
        tail = (request.continuation_length, request.arguments, request.seed)
        digest.update(repr((head, list(request.token_ids), tail)).encode())
        digest.update(request.key)
    return digest.hexdigest()


def write_answers(answers: Sequence[Answer], metadata: Mapping[str, str]) -> bytes:
    """Parquet bytes of one unit's answers; `metadata` goes into the schema."""
    columns: dict[str, Any] = {
        name: [getattr(answer, name) for answer in answers] for name in ANSWERS.names if name != "vector"
    }
    columns["vector"] = [None if answer.vector is None else list(answer.vector) for answer in answers]
    table = pa.table({name: columns[name] for name in ANSWERS.names}, schema=ANSWERS)
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(dict(metadata)), sink, compression=COMPRESSION)
    return sink.getvalue()


def read_answers(content: bytes) -> tuple[list[Answer], dict[str, str]]:
    """Answers and metadata of one unit.

    Raises:
        ValueError: torn or damaged bytes.
    """
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a readable parquet file: {error}") from error
    if table.schema.names != ANSWERS.names:
        raise ValueError(f"unexpected columns {table.schema.names}")
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    return [_answer(row) for row in table.to_pylist()], metadata


def _request_table(requests: Sequence[Request]) -> pa.Table:
    columns: dict[str, Any] = {name: [getattr(request, name) for request in requests] for name in REQUESTS.names}
    columns["type"] = [str(request.type) for request in requests]
    columns["token_ids"] = [list(request.token_ids) for request in requests]
    return pa.table(columns, schema=REQUESTS)


def _request(row: dict[str, Any]) -> Request:
    return Request(**{**row, "type": RequestType(row["type"]), "token_ids": tuple(row["token_ids"])})


def _answer(row: dict[str, Any]) -> Answer:
    vector = row["vector"]
    return Answer(**{**row, "vector": None if vector is None else tuple(vector)})
