"""Printing a finished run: results with intervals, the time ledger and the proof line."""

from typing import Any

from evalfleet.cli.output import Format, print_data
from evalfleet_worker.protocol import FinishReport, Result, SampleCounts, TimeLedger, to_json


def print_report(report: FinishReport, form: Format) -> None:
    """Print a report on stdout."""
    if form is not Format.TABLE:
        print_data(report_data(report), form)
        return
    from rich.console import Console

    console = Console(highlight=False)
    if report.results:
        console.print(_table(report.results))
    for message in report.messages:
        console.print(f"! {message}")
    for line in (ledger_line(report.time), proof_line(report.samples), f"results: {report.results_uri}"):
        console.print(line, soft_wrap=True)


def report_data(report: FinishReport) -> dict[str, Any]:
    """The stable JSON form: results, samples, time, resultsUri and the outcome."""
    content: dict[str, Any] = to_json(report)
    return content


def ledger_line(time: TimeLedger) -> str:
    """Where the worker time went, in words; a cluster's status knows nothing of plan and finish."""
    parts = (
        ("plan", time.plan_seconds),
        ("model load", time.model_load_seconds),
        ("scoring", time.scoring_seconds),
        ("wasted", time.wasted_seconds),
        ("finish", time.finish_seconds),
    )
    told = [f"{name} {seconds:.1f} s" for name, seconds in parts if seconds > 0 or name not in ("plan", "finish")]
    return f"time: {', '.join(told)} (summed over workers)"


def proof_line(samples: SampleCounts) -> str:
    """What was planned, what was counted, and how double executions compared."""
    equal = "=" if samples.planned == samples.scored else "≠"
    twice = f"{samples.executed_twice} requests executed twice, {samples.mismatched} of them differ"
    failed = f"; {samples.failed} failed" if samples.failed else ""
    return f"proof: {samples.planned} samples planned {equal} {samples.scored} scored{failed}; {twice}"


def _table(results: tuple[Result, ...]) -> Any:
    from rich import box
    from rich.table import Table

    several = any(result.task not in ("", result.evaluation) for result in results)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("Evaluation", "Task", "Metric") if several else ("Evaluation", "Metric"):
        table.add_column(column, no_wrap=True)
    for column in ("Value", "± SE", "95 % interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in results:
        names = [result.evaluation, result.task] if several else [result.evaluation]
        table.add_row(*names, *_cells(result))
    return table


def _cells(result: Result) -> tuple[str, ...]:
    known = result.low is not None and result.high is not None
    return (
        result.metric + (f" ({result.filter})" if result.filter not in ("", "none") else ""),
        "undefined" if result.value is None else f"{result.value:.4f}",
        "" if result.standard_error is None else f"{result.standard_error:.4f}",
        f"{result.low:.4f} - {result.high:.4f}" if known else "",
        str(result.n),
    )
