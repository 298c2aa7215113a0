"""Printing a finished run: results with intervals, the time spent and the proof line."""

from typing import Any

import typer

from evalfleet.cli.output import Format, print_data, screen_width
from evalfleet.cli.result_table import result_table
from evalfleet.cli.table import printable, wrapped
from evalfleet.cli.text import clock
from evalfleet_worker.protocol import EvaluationFailure, FinishReport, Proof, SampleCounts, TimeLedger, to_json


def print_report(report: FinishReport, form: Format) -> None:
    """Print a report on stdout."""
    if not form.for_people:
        print_data(report_data(report), form)
        return
    width = screen_width(form)
    if report.results:
        typer.echo(result_table(report.results, width))
    lines = [f"Failed: {failure_words(failure)}" for failure in report.failed]
    told = {failure.message for failure in report.failed}
    lines += [f"! {message}" for message in report.messages if message not in told]
    if report.truncated:
        lines.append(f"! {report.truncated} more results lie at {report.results_uri}")
    if report.published:
        lines.append(f"result of {clock(report.published)}: nothing was run")
    lines += [f"engine: {words}" for words in report.engine]
    lines += [ledger_line(report.time), proof_line(report.samples, report.proof), f"results: {report.results_uri}"]
    for line in lines:
        typer.echo("\n".join(wrapped(printable(line), width)))


def report_data(report: FinishReport) -> dict[str, Any]:
    """The stable JSON form: results, samples, time, resultsUri, the outcome, and whether anything was run for it."""
    return {**to_json(report), "nothingRun": bool(report.published)}


def ledger_line(time: TimeLedger) -> str:
    """Where the worker time went, in words; a cluster's status knows nothing of plan and finish."""
    parts = (
        ("plan", time.plan_seconds),
        ("model load", time.model_load_seconds),
        ("scoring", time.scoring_seconds),
        ("wasted", time.wasted_seconds),
        ("finish", time.finish_seconds),
    )
    shown = [f"{name} {seconds:.1f} s" for name, seconds in parts if seconds > 0 or name not in ("plan", "finish")]
    return f"time: {', '.join(shown)} (summed over workers)"


def failure_words(failure: EvaluationFailure) -> str:
    """Why an evaluation has no score, with the reason once."""
    told = failure.reason in failure.message
    return failure.message if told else f"{failure.message} ({failure.reason})"


def proof_line(samples: SampleCounts, proof: Proof) -> str:
    """What was planned and counted, what was looked at in every answer, and how double executions compared.

    A cluster's status knows of no proof: it lies in summary.json.
    """
    equal = "=" if samples.planned == samples.scored else "≠"
    twice = f"{samples.executed_twice} requests executed twice, {samples.mismatched} of them differ"
    failed = f"; {samples.failed} failed" if samples.failed else ""
    model = f" of one model ({proof.model[:12]})" if proof.model else ""
    looked = f"{proof.finite_answers} answers{model}, all finite; " if proof.finite_answers else ""
    return f"proof: {samples.planned} samples planned {equal} {samples.scored} scored{failed}; {looked}{twice}"
