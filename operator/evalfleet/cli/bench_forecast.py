"""`evalfleet bench forecast`: the tables of the demand forecast, recomputed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from evalfleet.cli import bench_forecast_decision
from evalfleet.cli.bench_forecast_decision import KEPT


class Form(StrEnum):
    """Output formats."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(bench: typer.Typer) -> None:
    """Add the commands to the `bench` group."""
    bench.command("forecast")(forecast)
    bench_forecast_decision.register(bench)


def forecast(
    quick: Annotated[bool, typer.Option("--quick", help="One seed, short series: some minutes.")] = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.MARKDOWN,
    data: Annotated[Path | None, typer.Option(help="Folder of traces; default EVALFLEET_DATA, else synthetic.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Also write forecast.json and forecast.md into this folder.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--series", help="Only series of this name. Repeatable.")] = None,
    kept: Annotated[Path, typer.Option(help="What is computed is kept here: a stopped run goes on.")] = KEPT,
    processes: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
) -> None:
    """Replay every forecaster minute by minute on the traces below EVALFLEET_DATA and on synthetic demand."""
    from evalfleet_lab.bench import forecast as tables
    from evalfleet_lab.bench.forecast_parts import Bench, conditions, run, write
    from evalfleet_lab.bench.forecast_report import markdown
    from evalfleet_lab.traces.capacity import data_folder

    bench = Bench.start(kept, processes, lambda what: typer.echo(what, err=True))
    folder = data or data_folder()
    bench.tell(f"traces below {folder}" if folder else "synthetic series alone (set EVALFLEET_DATA for public traces)")
    size = tables.QUICK if quick else tables.FULL
    done = list(run(tables.forecast_parts(folder, size, frozenset(only or ())), bench))
    content: dict[str, Any] = {
        "benchmark": "forecast",
        "quick": quick,
        "only": only or [],
        "seeds": list(size.seeds),
        "conditions": conditions(bench, done),
        "rows": [row for one in done for row in one.facts["rows"]],
    }
    typer.echo(write(content, markdown(content), results, output is Form.JSON))
