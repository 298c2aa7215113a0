"""From committed units to published results; may be run again at any time."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path
from typing import Any

from evalfleet_worker.finish.ledger import executions, time_ledger
from evalfleet_worker.finish.merge import Merged, failed_evaluations, merge_units
from evalfleet_worker.finish.samples import write_samples
from evalfleet_worker.harness.interface import HarnessContext, HarnessResult, Replay
from evalfleet_worker.harness.offline import hub_access
from evalfleet_worker.harness.registry import harness_of
from evalfleet_worker.harness.startup import hide_torch
from evalfleet_worker.harness.tokenizer import load_encoder
from evalfleet_worker.model.resolve import resolve_model
from evalfleet_worker.plan.identities import IDENTITIES, Identities, read_identities
from evalfleet_worker.protocol import (
    EvaluationSpec,
    FailureReason,
    FinishReport,
    Result,
    RunError,
    RunSpec,
    SampleCounts,
    from_json,
    to_json,
)
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.store.run_store import RunStore

RESULTS = "results.json"


def finish_run(run: RunSpec, store: RunStore, cache: Path, own_process: bool = False) -> FinishReport:
    """Merge, replay and publish; a published run is returned as it is.

    Args:
        run: what to finish.
        store: where plan and units lie and results are published.
        cache: node cache with models; only chat templates need it.
        own_process: nothing else happens in this process, so it may go without torch (starts in a third of the time).

    Returns:
        Complete, SamplesFailed (no score of the evaluations concerned) or Incomplete (nothing is published).

    Raises:
        RunError: the run is not planned, a part is damaged, or PLAN_CHANGED.
    """
    published = store.read_summary()
    if published is not None:
        return from_json(FinishReport, published)
    started = time.monotonic()
    if own_process and not _renders_chats(run):
        hide_torch()
    plan = store.read_plan()
    if plan is None:
        raise RunError(FailureReason.INCOMPLETE, "the run has no plan yet: run the plan command first")
    merged = merge_units(store, plan)
    if merged.missing:
        published = store.read_summary()  # another finisher may be ahead and sweep the units away
        return _incomplete(run, plan, merged) if published is None else from_json(FinishReport, published)
    outcome = _score(run, store, plan, merged, cache)
    report = _report(run, store, plan, merged, outcome, started)
    return from_json(FinishReport, store.publish_results(_files(outcome), to_json(report)))


def _renders_chats(run: RunSpec) -> bool:
    """Whether the tokenizer is needed, so that a GGUF may have to be converted on this node, with torch."""
    return any(spec.lm_eval is not None and spec.lm_eval.apply_chat_template for spec in run.evaluations)


@dataclass(frozen=True, slots=True)
class _Outcome:
    results: Mapping[str, HarnessResult]
    failed: Mapping[str, list[int]]


def _score(run: RunSpec, store: RunStore, plan: Plan, merged: Merged, cache: Path) -> _Outcome:
    identities = read_identities(store.read_document(plan, IDENTITIES))
    failed = failed_evaluations([spec.name for spec in run.evaluations], identities, merged, plan)
    encoder = once(lambda: load_encoder(resolve_model(run.model, cache), run.model))
    context = HarnessContext(run, encoder, lambda _: None)
    with hub_access(replace(run, offline=True)):
        results = {
            spec.name: harness_of(spec).finish(spec, context, _replay(spec, store, plan, merged, identities))
            for spec in run.evaluations
            if spec.name not in failed
        }
    return _Outcome(results, failed)


def _replay(spec: EvaluationSpec, store: RunStore, plan: Plan, merged: Merged, identities: Identities) -> Replay:
    prefix = f"{spec.name}/"
    documents = {
        name.removeprefix(prefix): store.read_document(plan, name) for name in plan.documents if name.startswith(prefix)
    }
    answers = {call: [merged.answers[row] for row in rows] for call, rows in identities.rows.get(spec.name, {}).items()}
    return Replay(plan.extra["evaluations"][spec.name]["digest"], documents, answers)


def _files(outcome: _Outcome) -> dict[str, bytes]:
    official = {name: result.official for name, result in outcome.results.items() if result.official is not None}
    files = {f"samples/{name}.parquet": write_samples(result.rows) for name, result in outcome.results.items()}
    files[RESULTS] = (json.dumps(official, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
    return files


def defined(result: Result) -> Result:
    """The result without numbers that are none: JSON has no NaN, and who reads the report takes it for damaged."""
    numbers = {name: getattr(result, name) for name in ("value", "standard_error", "low", "high")}
    none: dict[str, Any] = {name: None for name, n in numbers.items() if n is None or not math.isfinite(n)}
    return replace(result, **none)


def _report(
    run: RunSpec, store: RunStore, plan: Plan, merged: Merged, outcome: _Outcome, started: float
) -> FinishReport:
    comparisons = store.comparisons()
    twice, mismatched = executions(comparisons)
    planned = plan.report.samples
    scored = sum(result.samples for result in outcome.results.values())
    failed = sum(plan.extra["evaluations"][name]["samples"] for name in outcome.failed)
    return FinishReport(
        run_id=run.run_id,
        outcome="SamplesFailed" if outcome.failed else "Complete",
        results=tuple(defined(result) for member in outcome.results.values() for result in member.results),
        samples=SampleCounts(planned, scored, twice, mismatched, failed),
        time=time_ledger(plan, merged, comparisons, time.monotonic() - started),
        results_uri=store.results_uri,
        messages=tuple(_failure(name, units, merged) for name, units in outcome.failed.items()),
    )


def _failure(name: str, units: list[int], merged: Merged) -> str:
    reasons = sorted({merged.failed[unit] for unit in units})
    numbers = ", ".join(map(str, units[:8])) + (" ..." if len(units) > 8 else "")
    return f"{name}: no score is published, unit {numbers} failed for good: {'; '.join(reasons)}"


def _incomplete(run: RunSpec, plan: Plan, merged: Merged) -> FinishReport:
    left = len(merged.missing)
    return FinishReport(
        run_id=run.run_id,
        outcome="Incomplete",
        results=(),
        samples=SampleCounts(plan.report.samples, 0),
        time=time_ledger(plan, merged, (), 0.0),
        results_uri="",
        units_left=left,
        messages=(f"{left} of {len(plan.units)} units are not scored yet: run workers until none is left",),
    )
