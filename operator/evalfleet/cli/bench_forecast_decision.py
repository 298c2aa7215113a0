"""`evalfleet bench forecast-decision`: what every worker policy would have cost, at the same late-work target."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


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
) -> None:
    """Replay every worker policy, ours and other systems', with its whole grid of settings in the same queue."""
    import json
    import time

    from evalfleet.bench import forecast_decision as tables
    from evalfleet.bench.decision_report import markdown

    began = time.monotonic()

    def tell(what: str) -> None:
        typer.echo(f"[{time.monotonic() - began:6.1f} s] {what}", err=True)

    size = tables.QUICK if quick else tables.FULL
    content: dict[str, Any] = {"benchmark": "forecast-decision", "quick": quick, "seeds": list(size.seeds), "rows": []}
    for more in tables.rows_by_group(data, size, tell):
        content["rows"] += more
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)
            (results / "forecast-decision.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (results / "forecast-decision.md").write_text(markdown(content["rows"]), encoding="utf-8")
    typer.echo(json.dumps(content, indent=1) if output is Form.JSON else markdown(content["rows"]))
