"""`evalfleet forecast`: figures, a picture and one sentence about a user's own arrivals."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from evalfleet.cli import forecast as command
from evalfleet_lab.own_forecast import TooShortError, own_forecast, plot
from evalfleet_lab.synthetic.demand import diurnal


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    command.register(app)
    return app


def table(path: Path, minutes: int) -> Path:
    rng = np.random.default_rng(0)
    lines = [f"{60 * minute},{rng.exponential(600):.1f}" for minute in range(minutes) if rng.random() < 0.5]
    path.write_text("time,gpu_seconds\n" + "\n".join(lines) + "\n")
    return path


def test_a_users_arrivals_get_figures_a_picture_and_one_sentence(app: typer.Typer, tmp_path: Path) -> None:
    picture = tmp_path / "out.svg"
    file = table(tmp_path / "mine.csv", 900)
    result = CliRunner().invoke(app, [str(file), "--plot", str(picture), "-o", "json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert {row["horizonSeconds"] for row in content["scores"]} == {300, 900}
    assert "few to judge" in content["wouldPay"]
    assert picture.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(("form", "shows"), [("table", "coverage"), ("markdown", "| horizon |")])
def test_people_get_a_table(app: typer.Typer, tmp_path: Path, form: str, shows: str) -> None:
    result = CliRunner().invoke(app, [str(table(tmp_path / "mine.csv", 300)), "--horizon", "7", "-o", form])
    assert result.exit_code == 0, result.output
    assert shows in result.stdout
    assert "7 min" in result.stdout


def test_what_is_wrong_with_the_table_is_said(app: typer.Typer, tmp_path: Path) -> None:
    file = table(tmp_path / "mine.csv", 300)
    with file.open("a") as lines:
        lines.write("17000,-5\n")
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 0
    assert "BadDemand" in result.stderr


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ("time,gpu_seconds\n0,1\n", [], "two hours are needed"),
        ("", [], "minutes of arrivals"),
        ("", ["--plot", "x.txt"], ".svg"),
    ],
)
def test_a_table_that_cannot_be_judged_is_refused(
    app: typer.Typer, tmp_path: Path, content: str, arguments: list[str], says: str
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(content)
    result = CliRunner().invoke(app, [str(file), *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
    with pytest.raises(TooShortError):
        own_forecast(file, (5,))


def test_a_missing_file_is_refused(app: typer.Typer) -> None:
    assert CliRunner().invoke(app, ["nowhere.csv"]).exit_code == 2


def test_regular_days_are_told_apart_from_silence(tmp_path: Path) -> None:
    series = diurnal(2.5, 1)
    file = tmp_path / "days.csv"
    busy = np.flatnonzero(series.values)
    file.write_text("time,gpu_seconds\n" + "".join(f"{60 * minute},{series.values[minute]}\n" for minute in busy))
    own = own_forecast(file, (15,))
    assert own.self_replay.proactive_cost is not None
    assert own.judged[0].scores[0.9].coverage == pytest.approx(0.9, abs=0.06)
    plot(own, tmp_path / "days.png")
    assert (tmp_path / "days.png").read_bytes().startswith(b"\x89PNG")
