"""Markdown of the forecast benchmark: the ensemble beside its best member in hindsight, misses, then all rows."""

from collections.abc import Callable
from typing import Any

from evalfleet.bench.forecast_parts import conditions_text
from evalfleet_scaling.forecast.forecaster import MEMBERS

Row = dict[str, Any]
Key = tuple[str, int, float]
REGRET_GOAL = 1.10
WINS_GOAL = 0.8
TUNED = "-tuned"


def markdown(content: dict[str, Any]) -> str:
    """All tables as one page."""
    scores = content["rows"]
    parts = [
        "# Demand forecast",
        "",
        *_conditions(content),
        "",
        *_summary(scores),
        "",
        *_goals(scores),
        "",
        "## All rows",
        "",
        *_table(scores),
    ]
    return "\n".join(parts) + "\n"


def _conditions(content: dict[str, Any]) -> list[str]:
    command = "evalfleet bench forecast" + " --quick" * content["quick"]
    command += "".join(f" --series {name}" for name in content["only"])
    return [
        f"Written by `{command}`. Synthetic families: seeds {', '.join(map(str, content['seeds']))} together.",
        conditions_text(content["conditions"]),
        "`cpuSeconds` of the ensemble: three lead times, four quantiles, training included, all seeds together.",
    ]


def _by_key(rows: list[Row]) -> dict[Key, dict[str, Row]]:
    out: dict[Key, dict[str, Row]] = {}
    for row in rows:
        out.setdefault((row["series"], row["horizonSeconds"], row["quantile"]), {})[row["model"]] = row
    return {key: models for key, models in out.items() if "ensemble" in models}


def _best(models: dict[str, Row], names: tuple[str, ...]) -> Row | None:
    known = [models[name] for name in names if name in models]
    return min(known, key=lambda row: float(row["wql"]), default=None)


def _baseline_names(models: dict[str, Row]) -> tuple[str, ...]:
    return tuple(name for name in models if name != "ensemble" and name not in MEMBERS)


def _summary(rows: list[Row]) -> list[str]:
    lines = [
        "## Ensemble",
        "",
        "WQL = 2 x pinball / mean demand, after day 7 (a third of a shorter series); in brackets 95 % over days.",
        "",
        "| series | H | level | WQL | coverage | worst 24 h | best member | its WQL | best baseline | its WQL | n |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (series, horizon, level), models in _by_key(rows).items():
        ours, member = models["ensemble"], _best(models, MEMBERS)
        other = _best(models, _baseline_names(models))
        cells = [series, f"{horizon // 60} min", level, f"{ours['wql']} ({ours['wqlLow']}-{ours['wqlHigh']})"]
        cells += [ours["coverage"], ours["worstDayCoverage"], *_named(member), *_named(other), ours["n"]]
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def _named(row: Row | None) -> list[Any]:
    return ["-", "-"] if row is None else [row["model"], row["wql"]]


def _goals(rows: list[Row]) -> list[str]:
    """The two goals over all series, with every miss by name."""
    keys = _by_key(rows)
    misses = []
    for (series, horizon, level), models in keys.items():
        best = _best(models, MEMBERS)
        if best is not None and best["wql"] > 0 and models["ensemble"]["wql"] > REGRET_GOAL * best["wql"]:
            ratio = models["ensemble"]["wql"] / best["wql"]
            misses.append(f"- {series}, {horizon // 60} min, {level}: {ratio:.2f} x {best['model']}")
    lines = [
        "## Goals",
        "",
        f"Within {REGRET_GOAL} x of the best member in hindsight: {len(keys) - len(misses)} of {len(keys)}. Misses:",
        "",
        *(misses or ["- none"]),
    ]
    return lines + _wins(keys)


def _wins(keys: dict[Key, dict[str, Row]]) -> list[str]:
    upper = {key: models for key, models in keys.items() if key[2] == 0.9}
    return [
        *_wins_against(upper, "as published", lambda name: not name.endswith(TUNED)),
        *_wins_against(upper, ", tuned ones included", lambda name: True),
    ]


def _wins_against(upper: dict[Key, dict[str, Row]], which: str, wanted: Callable[[str], bool]) -> list[str]:
    losses, compared = [], 0
    for (series, horizon, _), models in upper.items():
        best = _best(models, tuple(name for name in _baseline_names(models) if wanted(name)))
        compared += best is not None
        if best is not None and best["wql"] <= models["ensemble"]["wql"]:
            losses.append(
                f"- {series}, {horizon // 60} min: {best['model']} {best['wql']}, ensemble {models['ensemble']['wql']}"
            )
    if not compared:
        return []
    share = f"{compared - len(losses)} of {compared} ({1 - len(losses) / compared:.0%}, goal {WINS_GOAL:.0%})"
    gap = "" if which.startswith(",") else " "
    head = f"At 0.9 better than every baseline{gap}{which}: {share}. Misses:"
    return ["", head, "", *(losses or ["- none"])]


def _table(rows: list[Row]) -> list[str]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(name)) for name in columns) + " |" for row in rows]
    return lines


def _cell(value: Any) -> str:
    return "" if value is None else str(value)
