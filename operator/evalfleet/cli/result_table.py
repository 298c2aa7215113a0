"""Published numbers as a table: each with its whole name, n, an interval and how that was made. Pure."""

from collections.abc import Sequence
from typing import Any

from evalfleet.cli.table import DETAIL, USEFUL, Column, table
from evalfleet_worker.protocol import Result

RESULT_COLUMNS = (
    Column("EVALUATION"),
    Column("TASK"),
    Column("METRIC"),
    Column("VALUE", number=True),
    Column("± SE", DETAIL, number=True),
    Column("95 % INTERVAL", USEFUL, number=True),
    Column("N", number=True),
    Column("METHOD", DETAIL + 1),
)
NO_FILTER = ("", "none")
"""What lm-eval calls answers as the model gave them."""


def result_table(results: Sequence[Result], width: int | None) -> str:
    """Results in the order given."""
    return table(RESULT_COLUMNS, [_cells(result) for result in results], width)


def status_cells(row: Any) -> list[str]:
    """The cells of a result in the status of an EvaluationJob, whose numbers are decimal strings."""
    known = "low" in row and "high" in row
    return [
        row["evaluation"],
        _task(row["evaluation"], row.get("task", "")),
        _metric(row["metric"], row.get("filter", "")),
        row["value"],
        row.get("standardError", ""),
        f"{row['low']} to {row['high']}" if known else "",
        str(row.get("n", "")),
        row.get("method", ""),
    ]


def _cells(result: Result) -> list[str]:
    known = result.low is not None and result.high is not None
    return [
        result.evaluation,
        _task(result.evaluation, result.task),
        _metric(result.metric, result.filter),
        "undefined" if result.value is None else f"{result.value:.4f}",
        "" if result.standard_error is None else f"{result.standard_error:.4f}",
        f"{result.low:.4f} to {result.high:.4f}" if known else "",
        str(result.n),
        result.method,
    ]


def _task(evaluation: str, task: str) -> str:
    return "" if task == evaluation else task


def _metric(metric: str, name: str) -> str:
    return metric if name in NO_FILTER else f"{metric} ({name})"
