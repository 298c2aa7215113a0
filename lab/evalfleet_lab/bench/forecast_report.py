"""Markdown of the forecast benchmark: the ensemble beside its best member in hindsight, misses, then all rows."""

from dataclasses import dataclass
from typing import Any

from evalfleet_lab.bench.forecast_parts import conditions_text
from evalfleet_lab.markdown import table, table_of
from evalfleet_scaling.forecast.forecaster import MEMBERS

Row = dict[str, Any]
Key = tuple[str, int, float]
REGRET_GOAL = 1.10
WINS_GOAL = 0.8
TUNED = "-tuned"
PERCENTILES = ("vpa-histogram", "static")
"""Baselines that give quantiles of their own; all others give a point and, tuned, a factor."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A kind of baselines and a level."""

    name: str
    level: float = 0.9
    tuned: bool = False
    percentiles: bool = True
    goal: str = ""

    def of(self, models: dict[str, Row]) -> tuple[str, ...]:
        """Those of the models that take part."""
        names = (name for name in models if name != "ensemble" and name not in MEMBERS)
        return tuple(
            name
            for name in names
            if (self.tuned or not name.endswith(TUNED))
            and (self.percentiles or name.removesuffix(TUNED) not in PERCENTILES)
        )


GOAL = f", goal {WINS_GOAL:.0%}"
CONTESTS = (
    Contest("point baseline as published", percentiles=False, goal=GOAL),
    Contest("point baseline, tuned ones included", percentiles=False, tuned=True, goal=GOAL),
    Contest("baseline as published"),
    Contest("baseline, tuned ones included", tuned=True),
    Contest("baseline as published", level=0.99),
    Contest("baseline, tuned ones included", level=0.99, tuned=True),
)


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
        *_others(scores),
        "",
        "## All rows",
        "",
        *table_of(scores),
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


def _summary(rows: list[Row]) -> list[str]:
    columns = ("series", "H", "level", "WQL", "coverage", "worst 24 h")
    rivals = ("best member", "its WQL", "best baseline", "its WQL")
    lines = []
    for (series, horizon, level), models in _by_key(rows).items():
        ours, member = models["ensemble"], _best(models, MEMBERS)
        other = _best(models, Contest("", tuned=True).of(models))
        cells = [series, f"{horizon // 60} min", level, f"{ours['wql']} ({ours['wqlLow']}-{ours['wqlHigh']})"]
        cells += [ours["coverage"], ours["worstDayCoverage"], *_named(member), *_named(other), ours["n"]]
        lines.append(cells)
    return [
        "## Ensemble",
        "",
        "WQL = 2 x pinball / mean demand, after day 7 (a third of a shorter series); in brackets 95 % over days.",
        "",
        *table((*columns, *rivals, "n"), lines),
    ]


def _named(row: Row | None) -> list[Any]:
    return ["-", "-"] if row is None else [row["model"], row["wql"]]


def _goals(rows: list[Row]) -> list[str]:
    """The two goals over all series, with every miss by name."""
    keys = _by_key(rows)
    misses, long_misses = [], 0
    for (series, horizon, level), models in keys.items():
        best = _best(models, MEMBERS)
        if best is not None and best["wql"] > 0 and models["ensemble"]["wql"] > REGRET_GOAL * best["wql"]:
            ratio = models["ensemble"]["wql"] / best["wql"]
            misses.append(f"- {series}, {horizon // 60} min, {level}: {ratio:.2f} x {best['model']}")
            long_misses += models["ensemble"]["days"] > 1
    lasting = [models["ensemble"]["days"] > 1 for models in keys.values()]
    lines = [
        "## Goals",
        "",
        f"Within {REGRET_GOAL} x of the best member in hindsight: {len(keys) - len(misses)} of {len(keys)}; on series "
        f"longer than a day {sum(lasting) - long_misses} of {sum(lasting)}. Misses:",
        "",
        *(misses or ["- none"]),
    ]
    return lines + _wins(keys)


def _wins(keys: dict[Key, dict[str, Row]]) -> list[str]:
    return [line for contest in CONTESTS for line in _against(keys, contest)]


def _against(keys: dict[Key, dict[str, Row]], contest: Contest) -> list[str]:
    """How often the ensemble beats every baseline of a kind, and where it does not."""
    misses, compared, long, long_misses = [], 0, 0, 0
    for (series, horizon, level), models in keys.items():
        best = _best(models, contest.of(models)) if level == contest.level else None
        if best is None:
            continue
        ours, lasting = models["ensemble"]["wql"], models["ensemble"]["days"] > 1
        compared, long = compared + 1, long + lasting
        if best["wql"] <= ours:
            misses.append(f"- {series}, {horizon // 60} min: {best['model']} {best['wql']}, ensemble {ours}")
            long_misses += lasting
    if not compared:
        return []
    share = f"{compared - len(misses)} of {compared} ({1 - len(misses) / compared:.0%}{contest.goal})"
    lasting = f"on series longer than a day {long - long_misses} of {long}"
    head = f"At {contest.level} better than every {contest.name}: {share}; {lasting}. Misses:"
    return ["", head, "", *(misses or ["- none"])]


def _others(rows: list[Row]) -> list[str]:
    """Ensemble beside the best baseline of each kind at 0.9 and 0.99."""
    keys, lines = _by_key(rows), list[list[str]]()
    for series, horizon in dict.fromkeys((series, horizon) for series, horizon, _ in keys):
        pair = [keys[series, horizon, level] for level in (0.9, 0.99) if (series, horizon, level) in keys]
        cells = [series, f"{horizon // 60} min", " / ".join(f"{models['ensemble']['wql']:.3f}" for models in pair)]
        for tuned in (False, True):
            found = [_best(models, Contest("", tuned=tuned).of(models)) for models in pair]
            cells.append(" / ".join("-" if one is None else f"{one['wql']:.3f} ({one['model']})" for one in found))
        lines.append(cells)
    return [
        "## Against other systems",
        "",
        "WQL at 0.9 / 0.99. Published: the system's defaults; tuned: constants and safety per level chosen online.",
        "",
        *table(("series", "H", "ensemble", "best published", "best, tuned ones included"), lines),
    ]
