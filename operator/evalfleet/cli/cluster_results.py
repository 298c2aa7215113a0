"""Results of an EvaluationJob in a cluster, from its status."""

import math
from typing import Any

from evalfleet.cli.connection import Place, read
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail, print_data
from evalfleet.cli.text import condition
from evalfleet.local.run.report import print_report
from evalfleet_worker.protocol import FinishReport, Result, SampleCounts, TimeLedger

SHOWN = ("results", "samples", "time", "resultsUri")


def show_cluster_results(name: str, place: Place, form: Format) -> None:
    """Print the results of an EvaluationJob, or end the command with the reason why there are none."""
    body = read(place, name, lambda reader: reader.get("EvaluationJob", name))
    status = body.get("status") or {}
    if not status.get("results"):
        message = condition(body, "Ready").get("message", "the operator has not seen it yet")
        fail(f"{body['metadata']['namespace']}/{name} has no results: {message}", Exit.CANNOT_SUCCEED)
    if not form.for_people:
        print_data({key: status[key] for key in SHOWN if key in status}, form)
        return
    print_report(report_of(name, status), form)


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
    )
