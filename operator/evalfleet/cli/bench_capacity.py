"""`evalfleet bench capacity`: the tables of the capacity strategies, recomputed."""

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
    bench.command("capacity")(capacity)


def capacity(
    quick: Annotated[bool, typer.Option("--quick", help="A few windows per pool: under a minute.")] = False,
    output: Annotated[Form, typer.Option("--output", "-o", help="What to print.")] = Form.MARKDOWN,
    data: Annotated[Path | None, typer.Option(help="Folder of traces; default EVALFLEET_DATA, else synthetic.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="Also write capacity.json and capacity.md into this folder.")
    ] = None,
) -> None:
    """Replay every strategy on the spot traces below EVALFLEET_DATA (else synthetic ones) beside offline bounds."""
    import json
    import time

    from evalfleet_lab.bench import capacity as tables
    from evalfleet_lab.bench.capacity_report import markdown
    from evalfleet_lab.traces.capacity import data_folder

    folder = data or data_folder()
    began = time.monotonic()
    source = f"traces below {folder}" if folder else "synthetic traces (set EVALFLEET_DATA for the public ones)"
    typer.echo(f"capacity benchmark on {source}, seed {tables.SEED}", err=True)
    size = tables.QUICK if quick else tables.FULL

    def tell(what: str) -> None:
        typer.echo(f"[{time.monotonic() - began:6.1f} s] {what}", err=True)

    content: dict[str, Any] = {"benchmark": "capacity", "quick": quick, "seeds": [tables.SEED], "rows": []}
    rows: list[tables.Row] = content["rows"]

    def keep(more: list[tables.Row]) -> None:
        """Write after every cell, so that an interrupted run leaves what it has."""
        rows.extend(more)
        if results is not None:
            results.mkdir(parents=True, exist_ok=True)
            (results / "capacity.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            (results / "capacity.md").write_text(markdown(rows), encoding="utf-8")

    for more in tables.capacity_rows(folder, size, tell):
        keep(more)
    typer.echo(json.dumps(content, indent=1) if output is Form.JSON else markdown(rows))
