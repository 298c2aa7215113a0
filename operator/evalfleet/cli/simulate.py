"""`evalfleet simulate`: what would this job have cost, and would it have been in time, on this spot trace?"""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evalfleet_lab.simulate.scenario import Scenario


class Form(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    YAML = "yaml"


_HEADINGS = {
    "costOverOnDemand": "/on-demand",
    "attainedSaving": "saving",
    "medianFinishHours": "finish h",
    "preemptions": "lost",
}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def simulate(
    trace: Annotated[
        Path | None, typer.Argument(help="Spot trace: CSV or JSON of counts per tick; default: a synthetic pool.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, max=1024, help="Workers at full width.")] = 16,
    hours: Annotated[float, typer.Option(min=0.1, max=1000, help="Hours of work at full width.")] = 12.0,
    deadline_hours: Annotated[
        float | None, typer.Option(min=0.01, help="Deadline after submission; default 1.5x hours.")
    ] = None,
    startup_seconds: Annotated[float, typer.Option(min=0, max=86400, help="Start-up of a worker (p95).")] = 600.0,
    spot_price: Annotated[float, typer.Option(min=0, help="Per worker and hour, where the trace has none.")] = 1.0,
    on_demand_price: Annotated[float, typer.Option(min=0.000001, help="Per worker and hour.")] = 3.0,
    strategy: Annotated[list[str] | None, typer.Option(help="Repeatable; default: all.")] = None,
    starts: Annotated[int, typer.Option(min=1, max=10000, help="Windows replayed, evenly spaced.")] = 60,
    launch_failure: Annotated[float, typer.Option(min=0, max=1, help="Share of on-demand launches that fail.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the synthetic pool and the faults.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Write a picture of one window (.png or .svg).")] = None,
    output: Annotated[Form, typer.Option("--output", "-o")] = Form.TABLE,
) -> None:
    """Replay a job over a spot trace with every strategy, beside the bound of a planner that knows the future."""
    from evalfleet.cli.exits import Exit
    from evalfleet.cli.output import fail
    from evalfleet_lab import whatif
    from evalfleet_lab.simulate.scenario import Faults, JobShape
    from evalfleet_scaling.errors import ScalingInputError

    due = 1.5 * hours if deadline_hours is None else deadline_hours
    job = JobShape(gpus, hours, due / hours, 1, startup_seconds)
    try:
        if plot is not None:
            whatif.check_picture(plot)
        chosen = whatif.chosen_strategies(strategy)
        scenario = whatif.build_scenario(
            trace, job, whatif.Prices(spot_price, on_demand_price), starts=starts, seed=seed
        )
        faults = Faults(launch_failure=launch_failure, seed=seed)
        rows = whatif.compare(scenario, chosen, faults)
        if plot is not None:
            whatif.draw(scenario, chosen[0], faults, plot)
    except (ScalingInputError, ValueError, OSError) as error:
        fail(str(error), Exit.USAGE)
    if due < hours + startup_seconds / 3600:
        least = hours + startup_seconds / 3600
        typer.echo(
            f"the work needs {least:.2f} h at full width, the deadline is {due:g} h: nobody is in time", err=True
        )
    _print(rows, scenario, output, seed)
    if plot is not None:
        typer.echo(f"wrote {plot}", err=True)


def _print(rows: list[dict[str, Any]], scenario: "Scenario", output: Form, seed: int) -> None:
    from evalfleet.cli.output import Format, print_data, screen_width
    from evalfleet.cli.table import Column, table

    content = {
        "seed": seed,
        "windows": scenario.counts.shape[1],
        "tickSeconds": scenario.tick_seconds,
        "strategies": rows,
    }
    if output in (Form.JSON, Form.YAML):
        print_data(content, Format(output.value))
        return
    if output is Form.MARKDOWN:
        from evalfleet_lab import markdown

        typer.echo("\n".join(markdown.table(rows[0], (row.values() for row in rows))))
        return
    columns = [Column(_HEADINGS.get(name, name), number=name != "strategy") for name in rows[0]]
    typer.echo(f"{scenario.counts.shape[1]} windows, tick {scenario.tick_seconds:g} s, seed {seed}")
    typer.echo(table(columns, [[_text(value) for value in row.values()] for row in rows], screen_width()))


def _text(value: Any) -> str:
    return "" if value is None else str(value)
