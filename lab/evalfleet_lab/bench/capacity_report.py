"""Capacity rows as Markdown, and what they say about the goals."""

from collections.abc import Iterable, Sequence

from evalfleet_lab.bench.capacity import SEED, Row

DEFAULT = "ElasticAuto"
Key = tuple[str, str, float]


def markdown(rows: Sequence[Row]) -> str:
    """All tables: one per table, pool and start-up; cells are cost over on-demand (attained saving), misses marked."""
    lines = [
        "# Capacity benchmark",
        "",
        "Cost as a fraction of the same work on on-demand without start-ups; in brackets the attained saving",
        "(on-demand - cost) / (on-demand - bound), where the bound knows the future. `!n` marks n missed deadlines.",
        f"Seed of all faults and synthetic traces: {SEED}. Whole ticks are billed.",
        "",
    ]
    for table, pool, delay in _keys(rows):
        lines += _table(
            [row for row in rows if (row["table"], row["pool"], row["delaySeconds"]) == (table, pool, delay)]
        )
    lines += ["## Cells in which another strategy without misses is cheaper than the default", ""]
    beaten = list(beaten_cells(rows))
    lines += beaten or ["None."]
    return "\n".join(lines) + "\n"


def beaten_cells(rows: Iterable[Row]) -> list[str]:
    """One line for every cell in which a strategy without misses costs less than the default."""
    cells: dict[tuple[str | int | float | None, ...], list[Row]] = {}
    for row in rows:
        if row["table"] != "faults" and row.get("deadlineRatio") is not None:
            key = tuple(row[name] for name in ("table", "pool", "deadlineRatio", "widthFactor", "delaySeconds"))
            cells.setdefault(key, []).append(row)
    lines = []
    for key, cell in cells.items():
        own = [row for row in cell if row["strategy"] == DEFAULT]
        safe = [row for row in cell if row["missed"] == 0 and row["strategy"] != DEFAULT]
        if not own or not safe:
            continue
        best = min(safe, key=_cost)
        if _cost(best) < _cost(own[0]):
            where = f"{key[0]}, {key[1]}, deadline {key[2]}x, width {key[3]}x, start-up {key[4]:g} s"
            lines.append(f"- {where}: {best['strategy']} {_cost(best):.4f}, {DEFAULT} {_cost(own[0]):.4f}")
    return lines


def _cost(row: Row) -> float:
    value = row["costOverOnDemand"]
    return float(value) if value is not None else float("inf")


def _keys(rows: Sequence[Row]) -> list[Key]:
    cells: dict[Key, None] = {}
    for row in rows:
        if row.get("deadlineRatio") is not None and row.get("costOverOnDemand") is not None:
            cells.setdefault((str(row["table"]), str(row["pool"]), float(row["delaySeconds"] or 0)), None)
    return sorted(cells, key=lambda key: (key[0] == "faults", key))


def _table(rows: Sequence[Row]) -> list[str]:
    columns = sorted({(int(row["widthFactor"] or 1), float(row["deadlineRatio"] or 0)) for row in rows})
    cells = {(row["strategy"], int(row["widthFactor"] or 1), float(row["deadlineRatio"] or 0)): row for row in rows}
    first = rows[0]
    names = list(dict.fromkeys(str(row["strategy"]) for row in rows))
    lines = [
        f"## {first['table']}: {first['pool']}, start-up {first['delaySeconds']:g} s, {first['starts']} runs a cell",
        "",
    ]
    lines.append("| strategy | " + " | ".join(f"{ratio:g}x, width {width}x" for width, ratio in columns) + " |")
    lines.append("|---|" + "---|" * len(columns))
    lines += [
        f"| {name} | " + " | ".join(_cell(cells.get((name, *column))) for column in columns) + " |" for name in names
    ]
    if first["table"] != "faults":
        lines.append("| bound | " + " | ".join(_bound(cells.get((names[0], *column))) for column in columns) + " |")
    return [*lines, ""]


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    saving = row["attainedSaving"]
    missed = f" !{row['missed']}" if row["missed"] else ""
    late = f" ({row['maxLatenessSeconds']:.0f} s)" if row["missed"] and row["maxLatenessSeconds"] is not None else ""
    shown = "" if saving is None or row["missed"] else f" ({saving:.3f})"
    return f"{_cost(row):.3f}{shown}{missed}{late}"


def _bound(row: Row | None) -> str:
    if row is None or not row["costOverBound"]:
        return ""
    return f"{_cost(row) / float(row['costOverBound']):.3f}"
