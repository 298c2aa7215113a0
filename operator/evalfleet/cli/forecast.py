"""`evalfleet forecast`: what the forecast would have said about arrivals of your own."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from evalfleet_lab.own_forecast import OwnForecast

COLUMNS = ("horizon", "level", "coverage", "worst 24 h", "WQL (95 %)", "n")


class Form(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("forecast")(forecast)


def forecast(
    file: Annotated[Path, typer.Argument(help="CSV of arrivals: time (ISO 8601 or Unix seconds), gpu_seconds[, id].")],
    horizon: Annotated[
        list[int] | None, typer.Option(min=1, max=240, help="Lead time in minutes; repeat for several.")
    ] = None,
    lead_time: Annotated[
        int | None,
        typer.Option(
            min=1, max=240, help="Minutes from ordering a worker to its first work; default: the longest horizon."
        ),
    ] = None,
    tolerated_wait: Annotated[
        int, typer.Option(min=0, max=1_440, help="Minutes a job may wait before it is late.")
    ] = 10,
    late_target: Annotated[float, typer.Option(min=0, max=100, help="Percent of the work that may be late.")] = 1.0,
    plot: Annotated[Path | None, typer.Option(help="Write the picture here (.png or .svg).")] = None,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.TABLE,
) -> None:
    """Forecast every minute of your own arrivals from what came before, and say whether prediction would pay."""
    from evalfleet_lab.own_forecast import TooShortError, own_forecast
    from evalfleet_lab.own_forecast import plot as draw
    from evalfleet_scaling.forecast.self_replay import Terms

    if not file.is_file():
        _refuse(f"{file} is no file; give a CSV with the columns time and gpu_seconds")
    if plot is not None and plot.suffix not in (".png", ".svg"):
        _refuse(f"{plot}: the picture can be .png or .svg")
    typer.echo(f"replaying {file.name} minute by minute (about two seconds a day)", err=True)
    try:
        horizons = tuple(sorted(set(horizon or [5, 15])))
        own = own_forecast(file, horizons, Terms(lead_time or max(horizons), tolerated_wait, late_target))
    except TooShortError as problem:
        _refuse(str(problem))
    for finding in own.findings:
        typer.echo(f"{finding.reason}: {finding.message}", err=True)
    if plot is not None:
        draw(own, plot)
        typer.echo(f"picture: {plot}", err=True)
    _print(own, output)


def _refuse(message: str) -> NoReturn:
    from evalfleet.cli.exits import Exit
    from evalfleet.cli.output import fail

    fail(message, Exit.USAGE)


def _rows(own: "OwnForecast") -> list[tuple[Any, ...]]:
    return [
        (f"{one.horizon_minutes} min", level, f"{figures.coverage:.3f}", f"{figures.worst_day_coverage:.3f}",
         f"{figures.wql:.3f} ({figures.wql_low:.3f}-{figures.wql_high:.3f})", figures.n)
        for one in own.judged
        for level, figures in one.scores.items()
    ]  # fmt: skip


def _answer(own: "OwnForecast") -> dict[str, Any]:
    answer = own.self_replay
    costs = {
        "reactiveCost": answer.reactive_cost,
        "proactiveCost": answer.proactive_cost,
        "staticCost": answer.static_cost,
    }
    return {**costs, "decision": answer.decision.value, "reason": answer.reason}


def _print(own: "OwnForecast", form: Form) -> None:
    if form is Form.JSON:
        import json
        from dataclasses import asdict

        scores = [
            {"horizonSeconds": 60 * one.horizon_minutes, "quantile": level, **asdict(figures)}
            for one in own.judged
            for level, figures in one.scores.items()
        ]
        findings = [asdict(finding) for finding in own.findings]
        content = {"scores": scores, "findings": findings, "wouldPay": own.self_replay.message, "gate": _answer(own)}
        typer.echo(json.dumps(content, indent=2))
        return
    if form is Form.MARKDOWN:
        from evalfleet_lab import markdown

        typer.echo("\n".join([*markdown.table(COLUMNS, _rows(own)), "", own.self_replay.message]))
        return
    from evalfleet.cli.output import screen_width
    from evalfleet.cli.table import Column, table

    columns = [Column(name, number=name != "level") for name in COLUMNS]
    typer.echo(f"{own.series.name}: {len(own.series) / 1_440:.1f} days, {len(own.series)} minutes")
    typer.echo(table(columns, [[str(cell) for cell in row] for row in _rows(own)], screen_width()))
    typer.echo(own.self_replay.message)
