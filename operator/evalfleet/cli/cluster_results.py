"""Results of an EvaluationJob in a cluster, from its status."""

import math
from typing import Any

import typer

from evalfleet.cli.connection import Place, read
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail, print_data
from evalfleet.cli.text import condition
from evalfleet.local.run.report import print_report
from evalfleet_worker.protocol import FinishReport, Result, SampleCounts, TimeLedger

SHOWN = ("results", "resultsTruncated", "samples", "time", "resultsUri")


def show_cluster_results(name: str, place: Place, form: Format) -> None:
    """Print the results of an EvaluationJob; its condition Succeeded decides how the command ends."""
    body = read(place, name, lambda reader: reader.get("EvaluationJob", name))
    status, ended = body.get("status") or {}, condition(body, "Succeeded").get("status")
    message = condition(body, "Ready").get("message", "the operator has not seen it yet")
    if not status.get("results"):
        fail(f"{body['metadata']['namespace']}/{name} has no results: {message}", Exit.CANNOT_SUCCEED)
    if form.for_people:
        print_report(report_of(name, status), form)
        _say_what_is_left_out(status)
    else:
        print_data({key: status[key] for key in SHOWN if key in status}, form)
    if ended != "True":
        fail(f"{body['metadata']['namespace']}/{name} has no full score: {message}", Exit.NO_FULL_SCORE)


def _say_what_is_left_out(status: dict[str, Any]) -> None:
    if status.get("resultsTruncated"):
        typer.echo(f"{status['resultsTruncated']} more results lie at {status.get('resultsUri', 'the store')}")


def report_of(name: str, status: dict[str, Any]) -> FinishReport:
    """The status of a finished EvaluationJob as a report."""
    samples, time = status.get("samples") or {}, status.get("time") or {}
    return FinishReport(
        run_id=name,
        outcome="Complete",
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
        method=row.get("method", ""),
        filter=row.get("filter", ""),
        task=row.get("task", ""),
    )
