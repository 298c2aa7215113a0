"""`evalfleet forecast` says in one sentence, with three numbers, whether prediction would pay."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from evalfleet.cli import forecast as command
from evalfleet_lab.synthetic.demand import diurnal
from evalfleet_scaling.forecast.interface import Series


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    command.register(app)
    return app


def table(path: Path, series: Series) -> Path:
    busy = np.flatnonzero(series.values)
    lines = [f"{60 * minute},{series.values[minute]:.3f}" for minute in busy.tolist()]
    path.write_text("time,gpu_seconds\n" + "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def regular(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return table(tmp_path_factory.mktemp("own") / "regular.csv", diurnal(3, 2))


def test_regular_days_and_slow_workers_get_the_sentence_and_its_three_numbers(app: typer.Typer, regular: Path) -> None:
    result = CliRunner().invoke(app, [str(regular), "--horizon", "15", "-o", "json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    answer, sentence = content["gate"], content["wouldPay"]
    told = [float(number) for number in re.findall(r"(?:reactive|proactive|static) (\d+\.\d\d)", sentence)]
    assert told == [round(answer[name], 2) for name in ("reactiveCost", "proactiveCost", "staticCost")]
    assert 1.0 < answer["proactiveCost"] < answer["staticCost"]
    assert answer["decision"] == ("Active" if sentence.startswith("Yes") else "Off")


def test_quick_workers_need_no_prediction_and_the_table_says_so(app: typer.Typer, regular: Path) -> None:
    result = CliRunner().invoke(app, [str(regular), "--lead-time", "2", "--horizon", "2"])
    assert result.exit_code == 0, result.output
    sentence = " ".join(result.stdout.split())
    assert "No: workers start in 2 min and work may wait 10 min" in sentence
    assert all(re.search(rf"{way} \d+\.\d\d", sentence) for way in ("reactive", "proactive", "static"))


def test_too_little_history_gives_no_numbers(app: typer.Typer, tmp_path: Path) -> None:
    file = table(tmp_path / "short.csv", diurnal(0.6, 2))
    result = CliRunner().invoke(app, [str(file), "-o", "json"])
    answer = json.loads(result.stdout)["gate"]
    assert answer["reason"] == "TooLittleHistory"
    assert answer["reactiveCost"] is None
