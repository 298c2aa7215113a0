"""Draws a picture for every table under benchmarks/results from its JSON. `python hack/draw_tables.py`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "evalfleet"  # equal pictures for equal input
mpl.rcParams["svg.fonttype"] = "none"

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
TARGET = RESULTS / "images"
DEFAULT = "ElasticAuto"
Row = dict[str, Any]


def main() -> None:
    """Draw the tables whose results exist."""
    TARGET.mkdir(parents=True, exist_ok=True)
    for rows in _tables("capacity"):
        _save(_capacity_figure(rows), "capacity", rows[0]["table"], rows[0]["pool"], f"{rows[0]['delaySeconds']:g}s")
    for rows in _tables("fleet"):
        if rows[0]["table"] in ("fleet", "fleet-speed"):
            _save(_fleet_figure(rows), rows[0]["table"], rows[0]["pool"])


def _tables(benchmark: str) -> Iterator[list[Row]]:
    """Rows of one table and pool (and start-up) together, in the order of the file."""
    path = RESULTS / f"{benchmark}.json"
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if path.exists() else ():
        groups.setdefault((row["table"], row["pool"], row.get("delaySeconds")), []).append(row)
    yield from groups.values()


def _capacity_figure(rows: list[Row]) -> Any:
    """Cost over on-demand by deadline, a panel per width; the bound in black, rows with misses hollow."""
    widths = sorted({row["widthFactor"] for row in rows})
    figure, axes = plt.subplots(1, len(widths), figsize=(5.5 * len(widths) + 2, 4), sharey=True, squeeze=False)
    for axis, width in zip(axes[0], widths, strict=True):
        axis.set_prop_cycle(color=mpl.colormaps["tab20"].colors)
        mine = [row for row in rows if row["widthFactor"] == width]
        for strategy in dict.fromkeys(row["strategy"] for row in mine):
            line = [row for row in mine if row["strategy"] == strategy]
            bold = {"linewidth": 2.5, "zorder": 3} if strategy == DEFAULT else {"linewidth": 1.0}
            points = [(row["deadlineRatio"], row["costOverOnDemand"]) for row in line]
            axis.plot(*zip(*points, strict=True), label=strategy.removeprefix(f"{DEFAULT}: "), **bold)
            late = [(row["deadlineRatio"], row["costOverOnDemand"]) for row in line if row["missed"]]
            if late:
                axis.plot(*zip(*late, strict=True), "o", color="black", fillstyle="none")
        bound = [(row["deadlineRatio"], row["costOverOnDemand"] / row["costOverBound"]) for row in _bounded(mine)]
        axis.plot(*zip(*sorted(bound), strict=True), color="black", linestyle=":", label="bound")
        axis.set(xlabel="deadline over shortest time", title=f"width {width}x")
    axes[0][0].set_ylabel("cost over on-demand (circle: deadlines missed)")
    axes[0][-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    figure.suptitle(f"{rows[0]['table']}: {rows[0]['pool']}, start-up {rows[0]['delaySeconds']:g} s")
    return figure


def _bounded(rows: list[Row]) -> list[Row]:
    first = next(row["strategy"] for row in rows if row["costOverBound"])
    return [row for row in rows if row["strategy"] == first and row["costOverBound"]]


def _fleet_figure(rows: list[Row]) -> Any:
    """Bars: share of jobs admitted and cost by policy, with misses written on; or milliseconds by number of jobs."""
    if rows[0]["table"] == "fleet-speed":
        figure, axis = plt.subplots(figsize=(6, 4))
        for name in ("p50Ms", "p99Ms"):
            axis.loglog([row["jobs"] for row in rows], [row[name] for row in rows], "o-", label=name.removesuffix("Ms"))
        axis.set(xlabel="jobs, 8 pools", ylabel="milliseconds of one decision", title=rows[0]["pool"])
        axis.legend()
        return figure
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.5), sharey=True)
    names = [row["strategy"] for row in rows]
    for axis, key, title in ((axes[0], "admittedFraction", "jobs admitted"), (axes[1], "costOverOnDemand", "cost")):
        bars = axis.barh(names, [row[key] for row in rows], color="#4c9f70")
        labels = [f"{row['missed']} missed" if row["missed"] and key == "admittedFraction" else "" for row in rows]
        axis.bar_label(bars, labels, label_type="center", color="white")
        axis.set_xlabel(f"{title} (share)" if key == "admittedFraction" else "cost over on-demand of the admitted")
    axes[0].invert_yaxis()
    figure.suptitle(f"{rows[0]['pool']}, on-demand quota {rows[0]['quotaWorkers']}")
    return figure


def _save(figure: Any, *parts: str) -> None:
    path = TARGET / (re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") + ".svg")
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    print(f"wrote {path.relative_to(RESULTS.parent.parent)}")


if __name__ == "__main__":
    main()
