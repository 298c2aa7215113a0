"""The forecast benchmark and the loaders of arrivals."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from evalfleet.cli import bench_forecast as command
from evalfleet_lab.bench.forecast import Run as ForecastRun
from evalfleet_lab.bench.forecast import Size, score_rows, series_groups
from evalfleet_lab.bench.forecast_parts import Bench, conditions
from evalfleet_lab.bench.forecast_report import markdown
from evalfleet_lab.traces.demand import arrivals_of_table, discover_demand, in_earnest, read_demand
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.score import sample, score, scored_from, worst_day

PHILLY = """timestamp,duration,num_gpus,gpu_time,cluster
2017-10-09 07:02:01,20000.0,2,40000.0,a
2017-10-09 07:01:55,66.0,1,66.0,a
2017-10-09 07:04:00,nonsense,1,66.0,a
"""


def test_each_kind_of_table_becomes_demand_by_the_minute(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    with gzip.open(tmp_path / "jobs" / "table.csv.gz", "wt") as file:
        file.write(PHILLY)
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "one.csv").write_text(
        "timestamp_ms,input_length,output_length\n0,4000,1000\n60000,0,500\n"
    )
    (tmp_path / "requests" / "two.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4000,0\n"
    )
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    traces = {trace.series.name: trace for trace in discover_demand(tmp_path)}
    assert sorted(traces) == ["jobs", "jobs-uncapped", "requests/one", "requests/two"]
    np.testing.assert_array_equal(traces["jobs"].series.values, [66.0, 21_600.0, 0.0, np.nan])
    np.testing.assert_array_equal(traces["jobs-uncapped"].series.values, [66.0, 40_000.0, 0.0, np.nan])
    assert [finding.reason for finding in traces["jobs"].findings] == ["BadDemand"]
    np.testing.assert_array_equal(traces["requests/one"].series.values, [2.0, 0.5])
    assert traces["requests/two"].series.start_minute % MINUTES_PER_DAY == 18 * 60 + 17


def test_chronus_counts_in_minutes(tmp_path: Path) -> None:
    path = tmp_path / "slo.csv"
    path.write_text("submit_time,num_gpu,duration,expect_time_list\n0,2,10,30\n2,1,5,30\n")
    (trace,) = read_demand(path)
    np.testing.assert_array_equal(trace.series.values, [1_200.0, 0.0, 300.0])


def test_a_trickle_before_the_trace_begins_in_earnest_is_left_out() -> None:
    busy = np.ones(4 * MINUTES_PER_DAY)
    trickle = np.zeros(2 * MINUTES_PER_DAY)
    trickle[::700] = 1e6
    kept = in_earnest(Series(np.concatenate([trickle, busy]), 60))
    assert len(kept) == len(busy)
    assert kept.start_minute == 60 + 2 * MINUTES_PER_DAY


@pytest.mark.parametrize(
    ("table", "events"),
    [
        ("time,gpu_seconds\n1970-01-01T00:01:00Z,5\n", [(60.0, 5.0, "")]),
        ("id,timestamp,demand\nx,60,5\n", [(60.0, 5.0, "x")]),
        ("when,amount\n60,5\n", [(60.0, 5.0, "")]),
        ("time\n60\n", [(60.0, 1.0, "")]),
    ],
)
def test_a_users_table_needs_a_time_and_at_best_a_demand(tmp_path: Path, table: str, events: list[object]) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(table)
    assert list(arrivals_of_table(path)) == events


def test_a_perfect_forecast_scores_zero_and_covers_everything() -> None:
    values = np.random.default_rng(0).integers(1, 9, 3 * MINUTES_PER_DAY).astype(np.float64)
    perfect = np.concatenate([values[1:], [np.nan]])
    figures = score([sample(values, 1, perfect, 0)], 0.9)
    assert figures is not None
    assert (figures.wql, figures.coverage, figures.worst_day_coverage, figures.mase) == (0.0, 1.0, 1.0, 0.0)
    assert figures.sharpness == pytest.approx(1.0)


def test_the_interval_holds_the_figure_and_days_without_arrivals_give_none() -> None:
    values = np.random.default_rng(1).gamma(1.0, 1.0, 10 * MINUTES_PER_DAY)
    figures = score([sample(values, 5, np.full(len(values), 9.0), scored_from(len(values)))], 0.9)
    assert figures is not None
    assert figures.wql_low < figures.wql < figures.wql_high
    assert (
        figures.n == 3 * MINUTES_PER_DAY + (10 * MINUTES_PER_DAY - 3 * MINUTES_PER_DAY) - scored_from(len(values)) - 5
    )
    assert score([sample(np.zeros(50), 5, np.zeros(50), 0)], 0.9) is None


def test_the_worst_day_is_found_wherever_it_starts() -> None:
    covered = np.ones(4_000, dtype=bool)
    covered[1_000:1_144] = False
    assert worst_day(covered) == pytest.approx(0.9)
    assert worst_day(np.array([True, False])) == 0.5


def write_requests(folder: Path) -> None:
    folder.mkdir()
    (folder / "r.csv").write_text(
        "timestamp_ms,input_length,output_length\n" + "".join(f"{20_000 * i},4000,{i % 7}\n" for i in range(300))
    )


def test_traces_come_before_the_six_families(tmp_path: Path) -> None:
    write_requests(tmp_path / "mine")
    names = [name for name, _ in series_groups(tmp_path, Size((0,), 1, None))]
    assert names[0] == "mine"
    assert len(names) == 7


def invoke(tmp_path: Path, *more: str) -> tuple[dict[str, Any], str]:
    app = typer.Typer()
    command.register(app)
    folders = [("--data", "mine"), ("--results", "results"), ("--kept", "kept")]
    options = [text for option, name in folders for text in (option, str(tmp_path / name))]
    done = CliRunner().invoke(app, ["forecast", "--quick", "--processes", "1", *options, "--series", "mine", *more])
    assert done.exit_code == 0, done.output
    results = tmp_path / "results"
    return json.loads((results / "forecast.json").read_text()), (results / "forecast.md").read_text()


def test_the_command_writes_all_of_its_page_and_goes_on_where_it_was(tmp_path: Path) -> None:
    write_requests(tmp_path / "mine")
    content, page = invoke(tmp_path)
    wanted = {"series", "horizonSeconds", "model", "quantile", "wql", "coverage", "worstDayCoverage", "n"}
    assert all(wanted <= set(row) for row in content["rows"])
    assert {(row["series"], row["horizonSeconds"]) for row in content["rows"]} == {("mine", 300), ("mine", 900)}
    assert {"ensemble", "dynamo-kalman", "vpa-histogram-tuned"} <= {row["model"] for row in content["rows"]}
    for text in (
        "Within 1.1 x of the best member in hindsight",
        "At 0.9 better than every point baseline as published",
        "At 0.99 better than every baseline as published",
        "## Against other systems",
        "better than every baseline, tuned ones included",
        "Written by `evalfleet bench forecast --quick --series mine`",
        "1 processes on",
        "| ensemble |",
    ):
        assert text in page
    assert "kept" not in page
    again, page = invoke(tmp_path)
    assert again["rows"] == content["rows"]
    assert again["conditions"]["computedTo"] == content["conditions"]["computedTo"]
    assert "1 of the parts were kept from an earlier run of the same code" in page


def test_rows_count_all_seeds_together() -> None:
    values = np.random.default_rng(2).gamma(1.0, 1.0, 600)
    run = ForecastRun(Series(values), {"constant": np.full((600, 2, 3), 5.0)}, {"constant": 0.5})
    rows = score_rows("twice", [run, run])
    assert rows[0]["n"] == 2 * (600 - 200 - 5)
    assert rows[0]["seeds"] == 2
    assert rows[0]["cpuSeconds"] == 1.0


def test_a_percentile_is_no_point_and_a_miss_is_named() -> None:
    head = {"series": "mine", "horizonSeconds": 300, "quantile": 0.9, "coverage": 0.9, "worstDayCoverage": 0.9, "n": 9}
    wql = {
        "ensemble": 1.0,
        "ses": 0.5,
        "constant": 1.2,
        "constant-tuned": 1.1,
        "vpa-histogram": 0.9,
        "static-tuned": 0.8,
    }
    rows = [{**head, "model": name, "wql": one, "wqlLow": one, "wqlHigh": one, "days": 2} for name, one in wql.items()]
    content = {"quick": True, "only": [], "seeds": [0], "conditions": conditions(Bench.start(Path("unused")), [])}
    page = markdown({**content, "rows": rows})
    assert "At 0.9 better than every point baseline, tuned ones included: 1 of 1 (100%, goal 80%)" in page
    assert "At 0.9 better than every baseline as published: 0 of 1 (0%); on series longer than a day 0 of 1." in page
    assert "- mine, 5 min: vpa-histogram 0.9, ensemble 1.0" in page
    assert "- mine, 5 min: static-tuned 0.8, ensemble 1.0" in page
    assert "- mine, 5 min, 0.9: 2.00 x ses" in page
    assert "| mine | 5 min | 1.000 | 0.900 (vpa-histogram) | 0.800 (static-tuned) |" in page
