"""`evalfleet bench forecast-decision`: what every worker policy would have cost, at the same late-work target."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

KEPT = Path(".evalfleet/bench-forecast")
"""Where computed parts are kept, unless told otherwise."""


class Form(StrEnum):
    """Output formats."""

    JSON = "json"
    MARKDOWN = "markdown"


def register(bench: typer.Typer) -> None:
    """Add the command to the `bench` group."""
    bench.command("forecast-decision")(forecast_decision)


def forecast_decision(
    quick: Annotated[bool, typer.Option("--quick", help="One seed, short series: some minutes.")] = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.MARKDOWN,
    data: Annotated[Path | None, typer.Option(help="Folder of traces; default EVALFLEET_DATA, else synthetic.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Also write forecast-decision.json and .md into this folder.")
    ] = None,
    kept: Annotated[Path, typer.Option(help="As of `bench forecast`, whose forecasts are used from here.")] = KEPT,
    processes: Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")] = 0,
) -> None:
    """Replay every worker policy, ours and other systems', with its whole grid of settings in the same queue."""
    from evalfleet_lab.bench import forecast_decision as tables
    from evalfleet_lab.bench.decision_report import markdown
    from evalfleet_lab.bench.forecast_parts import Bench, conditions, write
    from evalfleet_lab.traces.capacity import data_folder

    bench = Bench.start(kept, processes, lambda what: typer.echo(what, err=True))
    size = tables.QUICK if quick else tables.FULL
    rows, done = tables.all_rows(list(tables.groups(data or data_folder(), size, bench.tell)), size, bench)
    content: dict[str, Any] = {
        "benchmark": "forecast-decision",
        "quick": quick,
        "seeds": list(size.forecast.seeds),
        "conditions": conditions(bench, done),
        "rows": rows,
    }
    typer.echo(write(content, markdown(content), results, output is Form.JSON))
