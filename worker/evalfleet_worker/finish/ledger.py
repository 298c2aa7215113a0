"""Where the worker time of a run went, and how double executions compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from evalfleet_worker.finish.merge import Merged
from evalfleet_worker.protocol import TimeLedger
from evalfleet_worker.store.plan_file import Plan

Comparisons = Sequence[Mapping[str, Any]]
"""What the losers of commits found: `requests`, `mismatched`, `seconds` each."""


def time_ledger(plan: Plan, merged: Merged, comparisons: Comparisons, finish_seconds: float) -> TimeLedger:
    """Seconds of planning, loading, scoring and finishing, summed over workers; wasted = scored a second time."""
    loads: dict[str, float] = {}
    for part in merged.metadata:
        owner = part.get("owner", "")
        loads[owner] = max(loads.get(owner, 0.0), float(part.get("modelLoadSeconds", 0.0)))
    return TimeLedger(
        plan_seconds=float(plan.extra.get("planSeconds", 0.0)),
        model_load_seconds=round(sum(loads.values()), 3),
        scoring_seconds=round(sum(float(part.get("seconds", 0.0)) for part in merged.metadata), 3),
        wasted_seconds=round(sum(float(comparison.get("seconds", 0.0)) for comparison in comparisons), 3),
        finish_seconds=round(finish_seconds, 3),
    )


def executions(comparisons: Comparisons) -> tuple[int, int]:
    """Requests executed twice, and how many of them differed."""
    return sum(int(c["requests"]) for c in comparisons), sum(int(c["mismatched"]) for c in comparisons)
