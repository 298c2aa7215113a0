"""The benchmark commands recompute their tables, without data from synthetic pools, and repeat themselves exactly."""

import json

import pytest
import typer
from typer.testing import CliRunner

from evalfleet.cli import bench_capacity, simulate
from evalfleet_lab.bench.capacity import QUICK, Size, capacity_rows
from evalfleet_lab.bench.capacity_report import beaten_cells, markdown

FIELDS = {
    "table",
    "pool",
    "strategy",
    "deadlineRatio",
    "widthFactor",
    "delaySeconds",
    "starts",
    "costOverOnDemand",
    "costOverBound",
    "attainedSaving",
    "missed",
    "maxLatenessSeconds",
}
TINY = Size(starts=2, region_starts=2, quick=True)


def run(module, *arguments):
    app = typer.Typer()
    module.register(app)
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def rows():
    return [row for cell in capacity_rows(None, TINY) for row in cell]


def test_rows_have_the_published_fields_and_no_strategy_beats_the_bound(rows):
    assert all(row.keys() >= FIELDS for row in rows)
    in_time = [row for row in rows if row["missed"] == 0 and row["costOverBound"] is not None]
    assert len(in_time) > 20
    assert all(row["costOverBound"] >= 0.999 for row in in_time)


def test_the_default_misses_nothing_on_synthetic_pools(rows):
    own = [row for row in rows if row["strategy"] == "ElasticAuto"]
    assert [row["missed"] for row in own] == [0] * len(own)


def test_equal_seeds_give_equal_rows(rows):
    again = next(capacity_rows(None, TINY))
    assert again == rows[: len(again)]


def test_the_report_shows_every_table_and_names_cells_that_were_lost(rows):
    text = markdown(rows)
    assert text.count("\n## ") >= len({row["table"] for row in rows}) + 1
    own = next(row for row in rows if row["strategy"] == "ElasticAuto" and row["table"] == "shardable")
    worse = [dict(row, costOverOnDemand=9.0) if row is own else row for row in rows]
    assert any(own["pool"] in line for line in beaten_cells(worse))


def test_the_command_writes_json_and_markdown(tmp_path, monkeypatch):
    monkeypatch.setattr("evalfleet_lab.bench.capacity.QUICK", TINY)
    empty = tmp_path / "data"
    empty.mkdir()
    result = run(bench_capacity, "--quick", "-o", "json", "--data", str(empty), "--results", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out" / "capacity.json").read_text())
    assert written["seeds"]
    assert written["rows"]
    assert (tmp_path / "out" / "capacity.md").read_text().startswith("# Capacity benchmark")
    assert QUICK.quick


def test_a_what_if_on_the_users_trace_prints_a_row_per_strategy_and_draws(tmp_path):
    trace = tmp_path / "mine.json"
    trace.write_text(json.dumps({"metadata": {"gap_seconds": 600}, "data": [4] * 30 + [0] * 10 + [4] * 60}))
    picture = tmp_path / "window.svg"
    result = run(
        simulate, str(trace), "--gpus", "4", "--hours", "4", "--starts", "3", "-o", "json", "--plot", str(picture),
        "--strategy", "ElasticAuto", "--strategy", "OnDemandOnly",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [row["strategy"] for row in content["strategies"]] == ["ElasticAuto", "OnDemandOnly", "bound"]
    assert content["strategies"][0]["missed"] == 0
    assert picture.read_text().startswith("<?xml")


@pytest.mark.parametrize("output", ["table", "markdown", "yaml"])
def test_a_what_if_prints_in_every_format(output):
    result = run(simulate, "--gpus", "2", "--hours", "2", "--starts", "2", "--strategy", "Greedy", "-o", output)
    assert result.exit_code == 0, result.output
    assert "Greedy" in result.stdout


def test_an_impossible_deadline_is_said_beside_the_table():
    result = run(
        simulate, "--gpus", "2", "--hours", "2", "--deadline-hours", "1", "--starts", "2", "--strategy", "Greedy"
    )
    assert "the work needs 2.17 h at full width, the deadline is 1 h: nobody is in time" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strategy", "Clever"], "unknown strategy Clever"),
        (["absent.csv"], "absent.csv"),
        (["--hours", "900", "--starts", "2"], "does not fit a trace"),
        (["--gpus", "2", "--hours", "1", "--plot", "picture.bmp"], ".png or .svg"),
        (["--plot", "absent/picture.svg"], "there is no folder absent"),
        (["--on-demand-price", "0"], "--on-demand-price"),
        (["--deadline-hours", "nan"], "--deadline-hours"),
    ],
)
def test_a_wrong_what_if_says_what_is_wrong(arguments, words):
    result = run(simulate, *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
