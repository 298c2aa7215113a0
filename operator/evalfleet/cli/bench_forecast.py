"""`evalfleet bench forecast`: the tables of the demand forecast, recomputed."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from evalfleet.cli import bench_forecast_decision


class Form(StrEnum):
    """Output formats."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(bench: typer.Typer) -> None:
    """Add the commands to the `bench` group."""
    bench.command("forecast")(forecast)
    bench_forecast_decision.register(bench)


def forecast(
    quick: Annotated[bool, typer.Option("--quick", help="One seed, short series: a few minutes.")] = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.MARKDOWN,
    data: Annotated[Path | None, typer.Option(help="Folder of traces; default EVALFLEET_DATA, else synthetic.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Also write forecast.json and forecast.md into this folder.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--series", help="Only series of this name; rows of others in the results stay. Repeatable."),
    ] = None,
) -> None:
    """Replay every forecaster minute by minute on the traces below EVALFLEET_DATA and on synthetic demand."""
    import json
    import time

    from evalfleet.bench import forecast as tables
    from evalfleet.bench.forecast_report import markdown
    from evalfleet.traces.capacity import data_folder

    folder = data or data_folder()
    began = time.monotonic()

    def tell(what: str) -> None:
        typer.echo(f"[{time.monotonic() - began:6.1f} s] {what}", err=True)

    size = tables.QUICK if quick else tables.FULL
    tell(f"traces below {folder}" if folder else "synthetic series alone (set EVALFLEET_DATA for public traces)")
    rows: list[dict[str, Any]] = []
    content = {"benchmark": "forecast", "quick": quick, "seeds": list(size.seeds), "rows": rows}
    if only and results is not None and (results / "forecast.json").exists():
        kept = json.loads((results / "forecast.json").read_text(encoding="utf-8"))["rows"]
        rows += [row for row in kept if row["series"] not in only]
    for part in tables.forecast_rows(folder, size, tell, frozenset(only or ())):
        rows += part
        if results is not None:
            # After every series: a long run that is stopped keeps what it has.
            results.mkdir(parents=True, exist_ok=True)
            (results / "forecast.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (results / "forecast.md").write_text(markdown(rows), encoding="utf-8")
    typer.echo(json.dumps(content, indent=1) if output is Form.JSON else markdown(rows))
