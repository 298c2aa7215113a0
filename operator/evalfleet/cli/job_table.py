"""EvaluationJobs as a table. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from evalfleet.cli.table import DETAIL, USEFUL, Column, table
from evalfleet.cli.text import NOTHING, Object, age, condition, money, parse_time, relative, state

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("MODEL", DETAIL + 2),
    Column("DONE", number=True),
    Column("WORKERS", USEFUL, number=True),
    Column("ETA", USEFUL),
    Column("COST", DETAIL, number=True),
    Column("DEADLINE", DETAIL),
    Column("AGE", DETAIL + 3),
    Column("MESSAGE", DETAIL + 1),
)
NAMESPACE = Column("NAMESPACE")


def job_table(bodies: Iterable[Object], now: datetime, *, namespaces: bool, width: int | None = None) -> str:
    """One row per EvaluationJob as wide as the screen; `namespaces` adds that column."""
    columns = (NAMESPACE, *COLUMNS) if namespaces else COLUMNS
    return table(columns, job_rows(bodies, now, namespaces=namespaces), width)


def job_rows(bodies: Iterable[Object], now: datetime, *, namespaces: bool) -> list[list[str]]:
    """One row per EvaluationJob, newest last; `namespaces` adds that cell."""
    ordered = sorted(bodies, key=lambda body: str(body["metadata"].get("creationTimestamp") or ""))
    rows = [[body["metadata"]["namespace"], *_cells(body, now)] for body in ordered]
    return rows if namespaces else [row[1:] for row in rows]


def _cells(body: Object, now: datetime) -> list[str]:
    status = body.get("status") or {}
    progress, cost = status.get("progress") or {}, status.get("cost") or {}
    ended = bool(status.get("completionTime"))
    return [
        body["metadata"]["name"],
        state(body),
        body["spec"]["model"]["uri"],
        f"{progress['percent']}%" if "percent" in progress else NOTHING,
        NOTHING if ended else _workers(status.get("workers") or {}),
        NOTHING if ended else relative(progress.get("estimatedCompletionTime"), now),
        money(cost.get("spent"), cost.get("currency")),
        _deadline(body, now),
        age(body["metadata"].get("creationTimestamp"), now),
        str(condition(body, "Ready").get("message", "")),
    ]


def _workers(workers: Any) -> str:
    return f"{workers.get('ready', 0)}/{workers['desired']}" if "desired" in workers else NOTHING


def _deadline(body: Object, now: datetime) -> str:
    holds = (body.get("status") or {}).get("deadlineTime")
    if holds:  # the policy's default and suspended time included
        return relative(holds, now)
    sla = body["spec"].get("sla") or {}
    if sla.get("deadlineTime"):
        return relative(sla["deadlineTime"], now)
    created = parse_time(body["metadata"].get("creationTimestamp"))
    if created is None or "completionSeconds" not in sla:
        return NOTHING
    return relative((created + timedelta(seconds=sla["completionSeconds"])).isoformat(), now)
