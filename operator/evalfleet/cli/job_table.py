"""EvaluationJobs as rows of a table. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from evalfleet.cli.words import NOTHING, Object, age, condition, money, parse_time, relative, state

HEADINGS = ("NAME", "MODEL", "DONE", "WORKERS", "ETA", "COST", "DEADLINE", "AGE", "STATE", "MESSAGE")
MODEL_WIDTH, MESSAGE_WIDTH = 40, 80


def job_rows(bodies: Iterable[Object], now: datetime, *, namespaces: bool) -> list[list[str]]:
    """Headings and one row per EvaluationJob, newest last; `namespaces` adds that column."""
    ordered = sorted(bodies, key=lambda body: str(body["metadata"].get("creationTimestamp") or ""))
    rows = [[body["metadata"]["namespace"], *_cells(body, now)] for body in ordered]
    table = [["NAMESPACE", *HEADINGS], *rows]
    return table if namespaces else [row[1:] for row in table]


def _cells(body: Object, now: datetime) -> list[str]:
    status = body.get("status") or {}
    progress, cost = status.get("progress") or {}, status.get("cost") or {}
    ended = bool(status.get("completionTime"))
    return [
        body["metadata"]["name"],
        _shortened(body["spec"]["model"]["uri"], MODEL_WIDTH),
        f"{progress['percent']}%" if "percent" in progress else NOTHING,
        NOTHING if ended else _workers(status.get("workers") or {}),
        NOTHING if ended else relative(progress.get("estimatedCompletionTime"), now),
        money(cost.get("spent"), cost.get("currency")),
        _deadline(body, now),
        age(body["metadata"].get("creationTimestamp"), now),
        state(body),
        _shortened(str(condition(body, "Ready").get("message", "")), MESSAGE_WIDTH),
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


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
