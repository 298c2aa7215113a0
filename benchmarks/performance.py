"""How good predictions of runtime, memory and start-up are: every run is predicted before it is learnt.

    python benchmarks/performance.py [synthetic] [heldout] [real] [speed] [--runs RUNS.jsonl]

`synthetic`: five worlds of 600 runs each, with a truth that has not the form of the model; constants of model and
worlds were chosen while looking at the first three. `heldout`: three worlds that nothing was chosen by. `real`: timings
that benchmarks/performance_runs.py collected; with --runs they replace those kept in the results. Each part updates
benchmarks/results/performance.json and .md.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("lab", "scaling")]

from evalfleet_lab.synthetic.performance import make_world, runs  # noqa: E402
from evalfleet_scaling.performance.document import dump  # noqa: E402 - after the path is set
from evalfleet_scaling.performance.history import History, learn, learn_all  # noqa: E402
from evalfleet_scaling.performance.interface import FinishedRun, Key, Quantity, Rung  # noqa: E402
from evalfleet_scaling.performance.predict import predictor  # noqa: E402
from evalfleet_scaling.performance.roofline import expected, planned_work  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SEEDS, HELD_OUT_SEEDS = range(5), range(20, 23)
RUNS_PER_SEED, RELEARN_EVERY = 600, 20
CLOCKS = {"wall": ("scoring_seconds", "startup_seconds"), "CPU": ("scoring_cpu_seconds", "startup_cpu_seconds")}

Row = dict[str, Any]


def main() -> None:
    """Run the parts that are named, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], "synthetic", "heldout", "real", "speed"])
    parser.add_argument("--runs", type=Path)
    options = parser.parse_args()
    path = RESULTS / "performance.json"
    results: Row = json.loads(path.read_text("utf-8")) if path.exists() else {}
    if options.runs:
        results["runs"] = [json.loads(line) for line in options.runs.read_text("utf-8").splitlines()]
    parts: dict[str, Callable[[], Any]] = {
        "synthetic": partial(synthetic, SEEDS, "synthetic"),
        "heldout": partial(synthetic, HELD_OUT_SEEDS, "synthetic, held out"),
        "real": partial(real, results.get("runs", [])),
        "speed": speed,
    }
    for part in options.parts or parts:
        results[part] = parts[part]()
    path.write_text(_compact(results), "utf-8")
    (RESULTS / "performance.md").write_text(_markdown(results), "utf-8")
    print((RESULTS / "performance.md").read_text("utf-8"))


def synthetic(seeds: Iterable[int], source: str) -> list[Row]:
    """Rows over all worlds together."""
    told: list[Row] = []
    for seed in seeds:
        told += prequential(list(runs(make_world(seed), 1000 + seed, RUNS_PER_SEED)), RELEARN_EVERY)
    return summarise(told, source)


def real(collected: Sequence[Row]) -> list[Row]:
    """Rows by clock; memory, which knows no clock, once."""
    rows = [
        row
        for clock in CLOCKS
        for row in summarise(prequential(finished(collected, clock), 1), f"real, {clock} seconds")
        if clock == "wall" or row["quantity"] != Quantity.MEMORY_BYTES
    ]
    return [row | {"source": "real"} if row["quantity"] == Quantity.MEMORY_BYTES else row for row in rows]


def finished(collected: Sequence[Row], clock: str) -> list[FinishedRun]:
    """Collected timings as finished runs."""
    scoring, startup = CLOCKS[clock]
    return [
        FinishedRun(
            f"{number:04d}",
            Key(row["model"], row["task"], "cpu", "1 thread"),
            planned_work(row["predicted_seconds"], row["flops"], row["memory_bytes"], row["bytes_read"], row["units"]),
            row["begun"],
            row[scoring],
            row["peak_bytes"],
            row[startup],
        )
        for number, row in enumerate(collected)
    ]


def prequential(members: Iterable[FinishedRun], relearn_every: int) -> list[Row]:
    """Every run predicted from those before it, and what simpler predictions would have said."""
    history, told = History(), []
    known = predictor(history)
    own: dict[tuple[Quantity, Key], list[float]] = defaultdict(list)
    for number, run in enumerate(members):
        if number % relearn_every == 0:
            known = predictor(history)
        for quantity in Quantity:
            value = run.measured(quantity)
            if value is None:
                continue
            answer = known.predict(quantity, run.key, run.work, run.finished_seconds)
            arithmetic, past = expected(quantity, run.work, run.key.gpu), own[quantity, run.key]
            told.append(
                {
                    "quantity": quantity,
                    "rung": answer.rung,
                    "low": answer.p10 / value,
                    "middle": answer.p50 / value,
                    "high": answer.p90 / value,
                    "roofline": arithmetic / value,
                    "own": arithmetic * float(np.exp(np.mean(past))) / value if past else np.nan,
                }
            )
            past.append(float(np.log(value / arithmetic)))
        history = learn(history, run)
    return told


def summarise(told: Sequence[Row], source: str) -> list[Row]:
    """Errors and coverage by quantity and rung."""
    groups: dict[tuple[Quantity, Rung], list[Row]] = defaultdict(list)
    for row in told:
        groups[row["quantity"], row["rung"]].append(row)
    return [
        {"source": source, "quantity": quantity.value, "rung": rung.value} | _summary(groups[quantity, rung])
        for quantity in Quantity
        for rung in Rung
        if (quantity, rung) in groups
    ]


def _summary(told: Sequence[Row]) -> Row:
    column = {name: np.array([row[name] for row in told]) for name in ("low", "middle", "high", "roofline", "own")}
    held = (column["low"] <= 1) & (column["high"] >= 1)
    own = column["own"][~np.isnan(column["own"])]
    return {
        "n": len(told),
        "mdape": _error(column["middle"]),
        "coverage": round(float(held.mean()), 4),
        "coverageStandardError": round(float(np.sqrt(0.16 / len(told))), 4),
        "measuredBelow": round(float((column["low"] > 1).mean()), 4),
        "measuredAbove": round(float((column["high"] < 1).mean()), 4),
        "widthP90OverP10": round(float(np.median(column["high"] / column["low"])), 3),
        "mdapeOfRoofline": _error(column["roofline"]),
        "mdapeOfOwnMean": _error(own) if len(own) else None,
    }


def _error(ratio: Any) -> float:
    return round(float(np.median(np.abs(ratio - 1))), 4)


def speed() -> Row:
    """CPU seconds to learn and to answer, and bytes of state, by the size of the history."""
    rows = []
    for count in (100, 600, 2048):
        members = list(runs(make_world(0, models=10, tasks=10), 5, count))
        history = learn_all(History(), members)
        begun = time.process_time()
        known = predictor(history)
        learnt = time.process_time()
        for run in members[:100]:
            known.predict(Quantity.SCORING_SECONDS, run.key, run.work, run.finished_seconds)
        rows.append(
            {
                "runs": len(history.runs),
                "keys": len({run.key for run in history.runs}),
                "learnCpuSeconds": round(learnt - begun, 3),
                "answerCpuMilliseconds": round(10 * (time.process_time() - learnt), 3),
                "stateBytes": len(dump(history)),
            }
        )
    return {"rows": rows}


def _compact(results: Row) -> str:
    """JSON with one row a line."""
    return json.dumps(results, indent=1).replace("\n   ", " ").replace("\n  }", " }") + "\n"


def _markdown(results: Row) -> str:
    lines = [
        "# Performance prediction",
        "",
        "Reproduce: `python benchmarks/performance.py`; collect real timings: `python benchmarks/performance_runs.py`.",
        "Every run is predicted before it is learnt. MdAPE = median of |predicted / measured - 1|; coverage of p10 to",
        "p90, goal 78-84 %; width = p90 / p10. Beside it: MdAPE of arithmetic alone, and of the mean of the key's own",
        "earlier ratios to it.",
        "",
        "| source | quantity | rung | n | MdAPE | coverage (± s.e.) | below | above | width | roofline | own mean |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in (row for part in ("synthetic", "heldout", "real") for row in results.get(part, [])):
        own = "" if row["mdapeOfOwnMean"] is None else f"{row['mdapeOfOwnMean']:.1%}"
        lines.append(
            f"| {row['source']} | {row['quantity']} | {row['rung']} | {row['n']} | {row['mdape']:.1%} "
            f"| {row['coverage']:.1%} ± {row['coverageStandardError']:.1%} | {row['measuredBelow']:.1%} "
            f"| {row['measuredAbove']:.1%} | {row['widthP90OverP10']:.2f} | {row['mdapeOfRoofline']:.1%} | {own} |"
        )
    lines += _speed_lines(results.get("speed", {}).get("rows", [])) + _machine_lines(results.get("runs", []))
    return "\n".join(lines) + "\n"


def _speed_lines(rows: Sequence[Row]) -> list[str]:
    head = ["", "| runs | keys | learn [CPU s] | answer [CPU ms] | state [bytes] |", "|---|---|---|---|---|"]
    return head + [
        f"| {r['runs']} | {r['keys']} | {r['learnCpuSeconds']} | {r['answerCpuMilliseconds']} | {r['stateBytes']} |"
        for r in rows
    ]


def _machine_lines(collected: Sequence[Row]) -> list[str]:
    """What the machine did meanwhile, by round."""
    if not collected:
        return []
    lines = ["", "Real runs by round: how much slower the same work was than in the first round.", ""]
    lines += [
        "| round | runs | load average | wall / CPU of scoring | CPU seconds / first round |",
        "|---|---|---|---|---|",
    ]
    rounds: dict[int, list[Row]] = defaultdict(list)
    for row in collected:
        rounds[row["round"]].append(row)
    first = {(r["model"], r["task"]): r["scoring_cpu_seconds"] / r["predicted_seconds"] for r in reversed(collected)}
    for number, rows in rounds.items():
        load = np.median([r["load_average"] for r in rows])
        waiting = np.median([r["scoring_seconds"] / r["scoring_cpu_seconds"] for r in rows])
        slower = np.median(
            [r["scoring_cpu_seconds"] / r["predicted_seconds"] / first[r["model"], r["task"]] for r in rows]
        )
        lines.append(f"| {number} | {len(rows)} | {load:.1f} | {waiting:.2f} | {slower:.2f} |")
    return lines


if __name__ == "__main__":
    main()
