"""Which row answers which planned request: a document of the plan, read by the finisher."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from evalfleet_worker.harness.interface import Call
from evalfleet_worker.plan.order import OrderedPlan
from evalfleet_worker.requests import RequestType

IDENTITIES = "identities.parquet"
SCHEMA = pa.schema(
    [
        ("evaluation", pa.dictionary(pa.int32(), pa.string())),
        ("type", pa.dictionary(pa.int32(), pa.string())),
        ("call_index", pa.int32()),
        ("part", pa.int32()),
        ("row", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Identities:
    """Rows of the parts of every call, by evaluation."""

    rows: Mapping[str, Mapping[Call, Sequence[int]]]

    def rows_of(self, evaluation: str) -> set[int]:
        """All rows that an evaluation needs."""
        return {row for rows in self.rows.get(evaluation, {}).values() for row in rows}


def write_identities(plan: OrderedPlan) -> bytes:
    """Parquet of the identity of every planned request and its row."""
    planned = plan.planned
    table = pa.table(
        [
            pa.array([request.evaluation for request in planned], pa.string()).dictionary_encode(),
            pa.array([str(request.type) for request in planned], pa.string()).dictionary_encode(),
            pa.array([request.call_index for request in planned], pa.int32()),
            pa.array([request.part for request in planned], pa.int32()),
            pa.array(plan.row_of, pa.int64()),
        ],
        schema=SCHEMA,
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_identities(content: bytes) -> Identities:
    """The identities written by `write_identities`."""
    columns = pq.read_table(io.BytesIO(content)).to_pydict()
    rows: dict[str, dict[Call, list[int]]] = {}
    for evaluation, kind, call, row in zip(
        columns["evaluation"], columns["type"], columns["call_index"], columns["row"], strict=True
    ):
        rows.setdefault(evaluation, {}).setdefault((RequestType(kind), call), []).append(row)
    return Identities(rows)
