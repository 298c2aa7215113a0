"""How large a plan is: work and predicted seconds of each row, known before any device exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from evalfleet_worker.engine.estimate import DeviceFacts, memory_needed, predicted_seconds, request_work
from evalfleet_worker.model.facts import ModelFacts
from evalfleet_worker.plan.order import shared_prefixes
from evalfleet_worker.requests import Request, RequestType, Unit

REFERENCE = DeviceFacts("one CPU core", flops_per_second=3e10, bytes_per_second=8e9, overhead_seconds=0.0)
"""The slowest place a unit may run on. Constant, not measured: the same run is cut into the same units everywhere."""
CALL_SECONDS = 0.05
"""A user's own example, of which nothing is known."""
MINIMUM_STEP_TOKENS = 512
"""Smallest bucket of tokens that an engine packs into one step."""


@dataclass(frozen=True, slots=True)
class PlanSize:
    """Size of a plan.

    Attributes:
        flops: arithmetic of every row, after the row before it: a prefix that both share is computed once.
        bytes_read: weights that every row's generated tokens read, 4 bytes each.
        seconds: predicted seconds of every row on `REFERENCE`, after the row before it.
        memory_bytes: needed to score the largest row.
    """

    flops: Sequence[float]
    bytes_read: Sequence[float]
    seconds: Sequence[float]
    memory_bytes: int


def plan_size(rows: Sequence[Request], facts: ModelFacts | None) -> PlanSize:
    """The size of the plan's rows; without a model (user code alone) only a prior is known."""
    if facts is None:
        nothing = [0.0] * len(rows)
        return PlanSize(nothing, nothing, [CALL_SECONDS] * len(rows), 0)
    costs = [_row_cost(request, facts, shared) for request, shared in zip(rows, shared_prefixes(rows), strict=True)]
    longest = max([MINIMUM_STEP_TOKENS, *(len(row.token_ids) for row in rows if row.type is not RequestType.CALL)])
    memory = memory_needed(facts, longest, REFERENCE.value_bytes)
    return PlanSize([c[0] for c in costs], [c[1] for c in costs], [c[2] for c in costs], memory)


def size_as_cut(size: PlanSize, rows: Sequence[Request], units: Sequence[Unit], facts: ModelFacts | None) -> PlanSize:
    """The size once units are cut: what the first row of a unit shares with the unit before is computed again."""
    if facts is None:
        return size
    flops, bytes_read, seconds = list(size.flops), list(size.bytes_read), list(size.seconds)
    for first in (unit.first_row for unit in units):
        flops[first], bytes_read[first], seconds[first] = _row_cost(rows[first], facts, shared=0)
    return PlanSize(flops, bytes_read, seconds, size.memory_bytes)


def _row_cost(request: Request, facts: ModelFacts, shared: int) -> tuple[float, float, float]:
    """FLOPs, bytes of weights read and seconds of one row of which `shared` tokens are computed anyway."""
    if request.type is RequestType.CALL:
        return 0.0, 0.0, CALL_SECONDS
    work = request_work(facts, request, shared)
    bytes_read = work.weight_reads * facts.parameters * REFERENCE.value_bytes
    return work.flops, bytes_read, predicted_seconds(work, facts, REFERENCE)
