"""How large a plan is: work and predicted seconds of each row, known before any device exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from evalfleet_worker.engine.estimate import DeviceFacts, memory_needed, predicted_seconds, request_work
from evalfleet_worker.engine.facts import ModelFacts
from evalfleet_worker.plan.order import shared_prefixes
from evalfleet_worker.requests import Request, RequestType

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
        flops: arithmetic when shared prefixes are computed once.
        seconds: predicted seconds of every row on `REFERENCE`, after the row before it.
        memory_bytes: needed to score the largest row.
    """

    flops: float
    seconds: Sequence[float]
    memory_bytes: int


def plan_size(rows: Sequence[Request], facts: ModelFacts | None) -> PlanSize:
    """The size of the plan's rows; without a model (user code alone) only a prior is known."""
    if facts is None:
        return PlanSize(0.0, [CALL_SECONDS] * len(rows), 0)
    flops, seconds, longest = 0.0, [], MINIMUM_STEP_TOKENS
    for request, shared in zip(rows, shared_prefixes(rows), strict=True):
        if request.type is RequestType.CALL:
            seconds.append(CALL_SECONDS)
            continue
        work = request_work(facts, request, shared)
        flops += work.flops
        seconds.append(predicted_seconds(work, facts, REFERENCE))
        longest = max(longest, len(request.token_ids))
    return PlanSize(flops, seconds, memory_needed(facts, longest, REFERENCE.value_bytes))
