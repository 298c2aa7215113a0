"""Markdown of the decision replay: ours beside the best tuned others, the self-replay, all rows."""

from typing import Any

from evalfleet_lab.bench.forecast_parts import conditions_text
from evalfleet_lab.markdown import table, table_of

Row = dict[str, Any]
Key = tuple[str, int, float]
ONLINE = "evalfleet"
OURS = (ONLINE, "reactive", "reactive-veto", "proactive")
SAME_RULE = "proactive-"
SHORT_LEAD_SECONDS = 600
REACTION_GOAL = 0.03


def markdown(content: dict[str, Any]) -> str:
    """All tables as one page."""
    rows = content["rows"]
    policies = [row for row in rows if "policy" in row]
    answers = [row for row in rows if "gate" in row]
    cells = [row for row in rows if "map" in row]
    head = ["# Decision replay", "", *_conditions(content), "", *_intro()]
    goals = ["", "## Goals", "", *_reaction_goal(policies), "", *_saving_goal(policies)]
    parts = [
        head,
        _summary(policies),
        goals,
        ["", *_self_replays(answers)],
        ["", *_map(cells)],
        ["", "## All rows", ""],
    ]
    return "\n".join([*(line for part in parts for line in part), *table_of(policies)]) + "\n"


def _conditions(content: dict[str, Any]) -> list[str]:
    command = "evalfleet bench forecast-decision" + " --quick" * content["quick"]
    return [
        f"Written by `{command}`. Synthetic families: seeds {', '.join(map(str, content['seeds']))} together.",
        conditions_text(content["conditions"]),
    ]


def _intro() -> list[str]:
    return [
        "Cost = GPU-seconds paid (start-up and idle time included) per GPU-second of work; in brackets 95 % over days.",
        "Late: share of the work that waited more than 10 min. Each policy but `evalfleet` is tuned on the first half",
        "of the days and judged on the rest; `hindsight` is its cheapest setting on the judged days themselves that",
        "met the target. `other system` is the cheapest of HPA/KEDA, Knative and static; `our rule, other forecast`",
        "feeds our proactive rule with forecasts of other systems. Late work above the target is marked `!`.",
        "",
    ]


def _summary(rows: list[Row]) -> list[str]:
    columns = ("series", "lead", "target", "evalfleet (nightly)", "late", "tuned reactive", "proactive")
    others = ("other system", "hindsight", "our rule, other forecast", "hindsight")
    lines = []
    for (series, lead, target), found in _by_key(rows).items():
        ours = found[ONLINE]
        other = _cheapest(found, lambda name: name not in OURS and not name.startswith(SAME_RULE))
        same = _cheapest(found, lambda name: name.startswith(SAME_RULE))
        cells = [series, f"{lead // 60} min", f"{target:g} %", f"{_cost(ours)} ({ours['low']:.2f}-{ours['high']:.2f})"]
        cells += [f"{ours['latePercent']:.2f} %", _cost(found["reactive"]), _cost(found["proactive"])]
        lines.append([*cells, *_named(other), *_named(same)])
    return table((*columns, *others), lines)


def _reaction_goal(rows: list[Row]) -> list[str]:
    """Where work may wait as long as a start-up takes: ours over the tuned reactive rule."""
    ratios = {
        key: found[ONLINE]["gpuSecondsOverWork"] / cost
        for key, found in _by_key(rows).items()
        if key[1] <= SHORT_LEAD_SECONDS and (cost := _fair_cost(found["reactive"])) is not None
    }
    if not ratios:
        return []
    misses = [
        f"- {series}, {lead // 60} min, {target:g} %: {ratio:.3f}"
        for (series, lead, target), ratio in ratios.items()
        if ratio > 1 + REACTION_GOAL
    ]
    return [
        "Where L <= tau, `evalfleet` over the tuned reactive rule (its best in hindsight where the tuned one missed "
        f"the target): {min(ratios.values()):.3f} to {max(ratios.values()):.3f}; at most {1 + REACTION_GOAL} in "
        f"{len(ratios) - len(misses)} of {len(ratios)} cells. Misses:",
        "",
        *(misses or ["- none"]),
    ]


def _fair_cost(row: Row) -> float | None:
    return row["gpuSecondsOverWork"] if met(row) else row.get("hindsight")


def _saving_goal(rows: list[Row]) -> list[str]:
    """Every policy on the daily demand of the issue, cheapest first."""
    found = _by_key(rows).get(("diurnal-weekly", 900, 1.0))
    if found is None:
        return []
    ours, other = found[ONLINE], _cheapest(found, lambda name: name not in OURS and not name.startswith(SAME_RULE))
    saving = (
        ""
        if other is None
        else f"; {1 - ours['gpuSecondsOverWork'] / other['gpuSecondsOverWork']:.0%} below {other['policy']}"
    )
    lines = ["| policy | cost | late |", "|---|---|---|"]
    for name, row in sorted(found.items(), key=lambda one: float(one[1]["gpuSecondsOverWork"])):
        lines.append(f"| {name} | {_cost(row)} ({row['low']:.2f}-{row['high']:.2f}) | {row['latePercent']:.2f} % |")
    return [f"Diurnal demand, lead 15 min, target 1 %: {_cost(ours)}{saving} (goal 20 %).", "", *lines]


def _by_key(rows: list[Row]) -> dict[Key, dict[str, Row]]:
    out: dict[Key, dict[str, Row]] = {}
    for row in rows:
        out.setdefault((row["series"], row["leadTimeSeconds"], row["lateTargetPercent"]), {})[row["policy"]] = row
    return {key: found for key, found in out.items() if ONLINE in found}


def _cheapest(found: dict[str, Row], wanted: Any) -> Row | None:
    """The cheapest that met the target on the judged days; else the least late."""
    some = [row for name, row in found.items() if wanted(name)]
    return min(
        some,
        key=lambda row: (not met(row), row["gpuSecondsOverWork"] if met(row) else row["latePercent"]),
        default=None,
    )


def met(row: Row) -> bool:
    """Whether the judged days' late work is within the target."""
    return bool(row["latePercent"] <= row["lateTargetPercent"])


def _cost(row: Row) -> str:
    return f"{row['gpuSecondsOverWork']:.3f}" + ("" if met(row) else f" ! {row['latePercent']:.1f} %")


def _named(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "-", "-"
    best = row.get("hindsight")
    return f"{row['policy'].removeprefix(SAME_RULE)} {_cost(row)}", "-" if best is None else f"{best:.3f}"


def _self_replays(rows: list[Row]) -> list[str]:
    columns = ("series", "lead", "decision", "reason", "reactive", "proactive", "static")
    lines = []
    for row in rows:
        costs = [
            "-" if row[name] is None else f"{row[name]:.2f}" for name in ("reactiveCost", "proactiveCost", "staticCost")
        ]
        lines.append([row["series"], f"{row['leadTimeSeconds'] // 60} min", row["gate"], row["reason"], *costs])
    return ["## Self-replay gate on the last seven days, target 1 %", "", *table(columns, lines)]


def _map(rows: list[Row]) -> list[str]:
    seeds = max((row["seeds"] for row in rows), default=0)
    return [
        "## Where prediction pays: diurnal demand, lead 15 min, target 1 %",
        "",
        f"`diurnal-weekly` with other swings and more or fewer jobs, {seeds} seeds together. `true rate`: our rule",
        "with the generator's own distribution in place of a forecast, tuned. With this rule no forecast saves more.",
        "Where the setting chosen on the first days missed the target, its best in hindsight stands; for ours never.",
        "Settings are steps: a rule that misses by a little at one stands with the next, dearer one.",
        "",
        *_cells(rows),
    ]


def _cells(rows: list[Row]) -> list[str]:
    columns = ("peak / trough", "jobs a minute", "evalfleet late", "best other system")
    costs = ("evalfleet", "saving", "true rate", "saving", "tuned reactive")
    lines = []
    for row in rows:
        other = row["otherSystemCost"]
        cells = [f"{row['peakOverTrough']:g}", f"{row['jobsPerMinute']:g}", f"{row['evalfleetLatePercent']:.2f} %"]
        cells.append("-" if other is None else f"{row['otherSystem']} {other:.3f}")
        for cost in (row["evalfleet"], row["knownRate"]):
            cells += [_optional(cost), "-" if cost is None or other is None else f"{1 - cost / other:.0%}"]
        lines.append([*cells, _optional(row["tunedReactive"])])
    return table((*columns, *costs), lines)


def _optional(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.3f}"
