"""`evalfleet bench fleet`: streams of jobs on a mixed fleet, beside other ways to admit and share."""

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
    bench.command("fleet")(fleet)


def fleet(
    quick: Annotated[bool, typer.Option("--quick", help="The first jobs of every stream: a minute or two.")] = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.MARKDOWN,
    data: Annotated[Path | None, typer.Option(help="Folder of traces; default EVALFLEET_DATA, else synthetic.")] = None,
    results: Annotated[Path | None, typer.Option(help="Also write fleet.json and fleet.md into this folder.")] = None,
) -> None:
    """Replay job streams with deadlines on spot and on-demand pools; check money limits; time the decision."""
    import json
    import time

    from evalfleet_lab.bench import fleet as tables
    from evalfleet_lab.bench.fleet_report import markdown

    began = time.monotonic()

    def tell(what: str) -> None:
        typer.echo(f"[{time.monotonic() - began:6.1f} s] {what}", err=True)

    content: dict[str, Any] = {"benchmark": "fleet", "quick": quick, "seeds": [tables.SEED], "rows": []}
    for row in tables.all_rows(quick, data, tell):
        content["rows"].append(row)
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)
            (results / "fleet.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (results / "fleet.md").write_text(markdown(content["rows"], tables.SEED), encoding="utf-8")
    text = json.dumps(content, indent=1) if output is Form.JSON else markdown(content["rows"], tables.SEED)
    typer.echo(text)
