"""The rows of the fleet benchmark as Markdown tables."""

from collections.abc import Sequence
from typing import Any

from evalfleet_lab.markdown import table

Row = dict[str, Any]

_REPLAY = (
    ("strategy", "policy"),
    ("admitted", "admitted"),
    ("jobs", "of"),
    ("admittedWorkFraction", "of the work"),
    ("missed", "missed"),
    ("maxLatenessSeconds", "most late [s]"),
    ("costOverOnDemand", "cost/on-demand"),
    ("onDemandShare", "on-demand share"),
    ("preemptions", "preemptions"),
    ("queueWaitP50Seconds", "wait p50 [s]"),
    ("queueWaitP90Seconds", "wait p90 [s]"),
)
_WAITS = (
    ("pool", "stream"),
    ("queueWaitAsked", "asked"),
    ("queueWaitMissed", "not kept"),
    ("queueWaitLargestExcessSeconds", "largest excess [s]"),
    ("missed", "missed deadlines"),
    ("costOverOnDemand", "cost/on-demand"),
)
_MONEY = (
    ("pool", "stream"),
    ("budgets", "budgets"),
    ("budgetsExceeded", "exceeded"),
    ("largestBudgetUse", "largest use"),
    ("largestRateOverLimit", "rate/limit"),
    ("largestHourOverLimit", "hour/limit"),
    ("largestDayOverLimit", "day/limit"),
    ("missed", "missed deadlines"),
)
_SPEED = (
    ("pool", "case"),
    ("jobs", "jobs"),
    ("pools", "pools"),
    ("workers", "workers"),
    ("p50Ms", "p50 [ms]"),
    ("p99Ms", "p99 [ms]"),
    ("minMs", "least [ms]"),
)


def markdown(rows: Sequence[Row], seed: int) -> str:
    """All tables with a sentence each."""
    lines = ["# Fleet benchmark", "", f"Seed: {seed}. Written by `evalfleet bench fleet`.", ""]
    for stream in dict.fromkeys(row["pool"] for row in rows if row["table"] == "fleet"):
        mine = [row for row in rows if row["pool"] == stream and row["table"] in ("fleet", "fleet-faults")]
        lines += [
            f"## {stream}",
            "",
            f"On-demand quota {mine[0]['quotaWorkers']}, start-up {mine[0]['delaySeconds']:g} s. Cost is that of "
            "the admitted jobs over their work at the on-demand price without start-ups.",
            "",
            *_table(mine, _REPLAY),
        ]
    lines += _section(rows, "fleet-money", "Money: budgets of jobs and limits of the policy", _MONEY)
    lines += _section(rows, "fleet-waits", "Queue-wait SLA of half an hour for every second job", _WAITS)
    lines += _section(rows, "fleet-speed", "Time of one decision, one core", _SPEED)
    return "\n".join(lines)


def _section(rows: Sequence[Row], table: str, title: str, columns: Sequence[tuple[str, str]]) -> list[str]:
    mine = [row for row in rows if row["table"] == table]
    return [f"## {title}", "", *_table(mine, columns)] if mine else []


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, str]]) -> list[str]:
    return [
        *table([title for _, title in columns], [[str(row.get(key, "")) for key, _ in columns] for row in rows]),
        "",
    ]
