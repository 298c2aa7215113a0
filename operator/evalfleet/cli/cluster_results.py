"""Results of an EvaluationJob in a cluster, from its status."""

import math
from typing import Any

from evalfleet.cli.connection import Place, read
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail, print_data
from evalfleet.cli.text import condition
from evalfleet.local.run.report import print_report
from evalfleet_worker.protocol import FinishReport, Result, RunOutcome, SampleCounts, TimeLedger

SHOWN = ("results", "resultsTruncated", "samples", "time", "resultsUri")


def show_cluster_results(name: str, place: Place, form: Format) -> None:
    """Print the results of an EvaluationJob; its condition Succeeded decides how the command ends."""
    body = read(place, name, lambda reader: reader.get("EvaluationJob", name))
    status, ended = body.get("status") or {}, condition(body, "Succeeded")
    who = f"{body['metadata']['namespace']}/{name}"
    if not status.get("results"):
        fail(f"{who} {_why_not(body, 'has no results')}", Exit.CANNOT_SUCCEED)
    if form.for_people:
        print_report(report_of(name, status, ended), form)
    else:
        outcome = {"outcome": outcome_of(ended), "message": ended.get("message", "")}
        print_data({**outcome, **{key: status[key] for key in SHOWN if key in status}}, form)
    if ended.get("status") != "True":
        fail(f"{who} {_why_not(body, 'has no full score')}", Exit.NO_FULL_SCORE)


def _why_not(body: Any, lack: str) -> str:
    ended = condition(body, "Succeeded")
    if ended.get("status") == "False":
        return f"Failed ({ended['reason']}): {ended['message']}"
    return f"{lack}: {condition(body, 'Ready').get('message', 'the operator has not seen it yet')}"


def outcome_of(ended: Any) -> str:
    """The outcome that the condition Succeeded says; of one that nobody has set, that the job runs."""
    if ended.get("status") == "True":
        return str(RunOutcome.COMPLETE)
    return str(ended.get("reason") or RunOutcome.INCOMPLETE)


def report_of(name: str, status: dict[str, Any], ended: Any) -> FinishReport:
    """The status of an EvaluationJob, whose condition Succeeded is `ended`, as a report."""
    samples, time = status.get("samples") or {}, status.get("time") or {}
    return FinishReport(
        run_id=name,
        outcome=outcome_of(ended),
        results=tuple(_result(row) for row in status["results"]),
        samples=SampleCounts(
            samples.get("planned", 0),
            samples.get("scored", 0),
            samples.get("executedTwice", 0),
            samples.get("mismatched", 0),
        ),
        time=TimeLedger(
            model_load_seconds=time.get("modelLoadSeconds", 0),
            scoring_seconds=time.get("scoringSeconds", 0),
            wasted_seconds=time.get("wastedGpuSeconds", 0),
        ),
        results_uri=status.get("resultsUri", ""),
        truncated=int(status.get("resultsTruncated", 0)),
    )


def _number(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _result(row: dict[str, Any]) -> Result:
    numbers = {key: float(row[key]) if key in row else None for key in ("standardError", "low", "high")}
    return Result(
        evaluation=row["evaluation"],
        metric=row["metric"],
        value=_number(row["value"]),
        standard_error=numbers["standardError"],
        low=numbers["low"],
        high=numbers["high"],
        n=int(row.get("n", 0)),
        task=row.get("task", ""),
        filter=row.get("filter", ""),
        method=row.get("method", ""),
    )
