"""The report of a finished run, and the files that are published with it."""

import json
import math
import time
from dataclasses import replace
from typing import Any

from evalfleet_worker.finish.evaluations import Committed, Scores, named
from evalfleet_worker.finish.ledger import executions, time_ledger
from evalfleet_worker.finish.merge import Merged
from evalfleet_worker.finish.proof import proof_of
from evalfleet_worker.finish.samples import write_samples, write_unscored
from evalfleet_worker.protocol import (
    FailureReason,
    FinishReport,
    Proof,
    Result,
    RunOutcome,
    RunSpec,
    SampleCounts,
)
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.strict_json import strict

RESULTS = "results.json"
FEW = 10
"""Log-probabilities from which on it is strange that all are equal."""


def report_of(committed: Committed, scores: Scores, started: float) -> FinishReport:
    """The report of a run whose units are all committed or given up; `started` is monotonic.

    Raises:
        RunError: PLAN_CHANGED when more than one model answered.
    """
    plan, merged, proof = committed.plan, committed.merged, proof_of(committed.merged)
    comparisons = committed.store.comparisons()
    twice, mismatched = executions(comparisons)
    scored = sum(result.samples for result in scores.results.values())
    planned = plan.extra["evaluations"]  # without those that the plan refused
    failed = sum(planned[name]["samples"] for name in scores.failed if name in planned)
    failures = [failure.message for failure in scores.failed.values()]
    return FinishReport(
        run_id=committed.run.run_id,
        outcome=outcome_of(scores),
        results=tuple(defined(result) for member in scores.results.values() for result in member.results),
        samples=SampleCounts(plan.report.samples, scored, twice, mismatched, failed),
        time=time_ledger(plan, merged, comparisons, time.monotonic() - started),
        results_uri=committed.store.results_uri,
        messages=(
            *failures,
            *(message for message in plan.report.messages if message not in failures),
            *_warnings(scores, proof),
        ),
        failed=tuple(scores.failed.values()),
        proof=proof,
        engine=tuple(sorted({part.get("engine", "") for part in merged.metadata} - {""})),
    )


def outcome_of(scores: Scores) -> RunOutcome:
    """Complete, or what kind of failure left evaluations without a score."""
    reasons = {failure.reason for failure in scores.failed.values()}
    if not reasons:
        return RunOutcome.COMPLETE
    only_samples = reasons == {FailureReason.SAMPLES_FAILED}
    return RunOutcome.SAMPLES_FAILED if only_samples else RunOutcome.SOME_EVALUATIONS_FAILED


def defined(result: Result) -> Result:
    """The result without numbers that are none: JSON has no NaN, and who reads the report takes it for damaged."""
    numbers = {name: getattr(result, name) for name in ("value", "standard_error", "low", "high")}
    none: dict[str, Any] = {name: None for name, n in numbers.items() if n is None or not math.isfinite(n)}
    if numbers["value"] is not None and "value" in none:
        none["method"] = f"undefined: the metric of these answers is {numbers['value']}"
    return replace(result, **none)


def files_of(committed: Committed, scores: Scores) -> dict[str, bytes]:
    """results.json, the samples of every evaluation, and the answers to those whose metrics failed."""
    files = {f"samples/{name}.parquet": write_samples(result.rows) for name, result in scores.results.items()}
    for name, failure in scores.failed.items():
        if failure.reason != FailureReason.SAMPLES_FAILED:
            calls = committed.identities.rows.get(name, {})
            files[f"answers/{name}.parquet"] = write_unscored(calls, committed.merged.answers)
    files[RESULTS] = _results_json(scores)
    return files


def _results_json(scores: Scores) -> bytes:
    official = {}
    for name, result in scores.results.items():
        if result.official is not None:
            content, no_numbers = strict(result.official)
            official[name] = {**content, "undefined": no_numbers} if no_numbers else content
    text = json.dumps(official, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _warnings(scores: Scores, proof: Proof) -> tuple[str, ...]:
    said = [named(name, words) for name, result in scores.results.items() for words in result.warnings]
    if proof.distinct_log_probabilities == 1 and proof.finite_answers >= FEW:
        said.append(f"all {proof.finite_answers} log-probabilities are equal: the model does not look at its input")
    return tuple(said)


def incomplete(run: RunSpec, plan: Plan, merged: Merged) -> FinishReport:
    """The report while units are left."""
    left = len(merged.missing)
    return FinishReport(
        run_id=run.run_id,
        outcome=RunOutcome.INCOMPLETE,
        results=(),
        samples=SampleCounts(plan.report.samples, 0),
        time=time_ledger(plan, merged, (), 0.0),
        results_uri="",
        units_left=left,
        messages=(f"{left} of {len(plan.units)} units are not scored yet: run workers until none is left",),
    )
