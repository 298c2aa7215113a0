"""Where the worker time of a run went, and how double executions compared."""

from evalfleet_worker.finish.merge import Merged
from evalfleet_worker.protocol import TimeLedger
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.store.run_store import RunStore


def time_ledger(plan: Plan, merged: Merged, finish_seconds: float) -> TimeLedger:
    """Seconds of planning, loading, scoring and finishing, summed over workers."""
    return TimeLedger(
        plan_seconds=float(plan.extra.get("planSeconds", 0.0)),
        scoring_seconds=round(sum(float(part.get("seconds", 0.0)) for part in merged.metadata), 3),
        finish_seconds=round(finish_seconds, 3),
    )


def executions(store: RunStore) -> tuple[int, int]:
    """Requests executed twice, and how many of them differed."""
    comparisons = store.comparisons()
    return sum(int(c["requests"]) for c in comparisons), sum(int(c["mismatched"]) for c in comparisons)
