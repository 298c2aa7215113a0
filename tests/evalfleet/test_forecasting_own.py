"""`evalfleet forecast` and the training of trees in a child process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from evalfleet.cli import forecast as command
from evalfleet.forecasting.own import TooShortError, own_forecast, plot
from evalfleet.forecasting.retraining import pack_training, train_in_child, unpack_training
from evalfleet_scaling.forecast.boosting import TrainingSet, train
from evalfleet_scaling.forecast.features import features
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.synthetic import diurnal
from evalfleet_scaling.forecast.window import Window


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
    assert own.gate.proactive_cost is not None
    assert own.judged[0].scores[0.9].coverage == pytest.approx(0.9, abs=0.06)
    plot(own, tmp_path / "days.png")
    assert (tmp_path / "days.png").read_bytes().startswith(b"\x89PNG")


SETUP = Setup((5,), (0.9,))


def training() -> TrainingSet:
    series = diurnal(2, 3)
    return TrainingSet(SETUP, Window(series.values, 1_440, series.start_minute), 600.0)


def test_trees_trained_in_a_child_equal_those_trained_here() -> None:
    there, here = train_in_child(training()), train(training())
    assert there is not None
    assert here is not None
    rows = features(training().window)[0]
    for one, other in zip(there.forests, here.forests, strict=True):
        np.testing.assert_array_equal(one.predict(rows), other.predict(rows))


def test_a_training_set_survives_the_way_to_the_child() -> None:
    copy = unpack_training(pack_training(training()))
    assert copy.setup == SETUP
    assert (copy.window.first, copy.window.minute, copy.typical) == (1_440, training().window.minute, 600.0)


def test_training_on_two_weeks_in_a_child_stays_below_200_megabytes() -> None:
    series = diurnal(15, 3)
    fortnight = TrainingSet(Setup((5, 15), (0.5, 0.9, 0.99)), Window(series.values, MINUTES_PER_DAY, 0), 600.0)
    lines = "evalfleet.forecasting.retraining.main(); print(open('/proc/self/status').read(), file=sys.stderr)"
    child = subprocess.run(
        [sys.executable, "-c", f"import sys, evalfleet.forecasting.retraining; {lines}"],
        input=pack_training(fortnight),
        capture_output=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    peak = next(line for line in child.stderr.decode().splitlines() if line.startswith("VmHWM"))
    assert child.stdout
    assert int(peak.split()[1]) < 200_000


def test_a_child_that_takes_too_long_or_has_nothing_to_learn_keeps_the_old_trees() -> None:
    assert train_in_child(training(), limit_seconds=0.01) is None
    assert train_in_child(TrainingSet(SETUP, Window(np.ones(50), 0, 0), 600.0)) is None
