"""`evalfleet get`: EvaluationJobs of a cluster as a table that says what each is doing."""

from typing import Annotated, Any

import typer

from evalfleet.cli.connection import Context, Namespace, Place, Reader, read
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, Output, fail, print_data, screen_width

REFRESH_SECONDS = 2.0


def get(
    name: Annotated[str | None, typer.Argument(help="Name of one EvaluationJob. Default: all.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    output: Output = Format.TABLE,
    *,
    all_namespaces: Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the table anew until Ctrl-C.")] = False,
) -> None:
    """List EvaluationJobs: progress, workers, expected end, cost, deadline, and what each is waiting for."""
    if watch and not output.for_people:
        fail("--watch shows a table; leave -o away", Exit.USAGE)
    if name and all_namespaces:
        fail("a NAME lives in one namespace; leave -A away", Exit.USAGE)
    place = Place(namespace, context)

    def ask() -> list[Any]:
        return read(place, name or "EvaluationJobs", lambda reader: _ask(reader, name, everywhere=all_namespaces))

    if watch:
        _watch(ask, namespaces=all_namespaces)
        return
    bodies = ask()
    if not output.for_people:
        print_data(bodies[0] if name else {"apiVersion": "v1", "kind": "List", "items": bodies}, output)
    else:
        typer.echo(_table(bodies, screen_width(output), namespaces=all_namespaces))


async def _ask(reader: Reader, name: str | None, *, everywhere: bool) -> list[Any]:
    if name is not None:
        return [await reader.get("EvaluationJob", name)]
    return await reader.list_all("EvaluationJob", everywhere=everywhere)


def _table(bodies: list[Any], width: int | None, *, namespaces: bool) -> str:
    from datetime import UTC, datetime

    from evalfleet.cli.job_table import job_table

    if not bodies:
        return "no EvaluationJobs here; create one: kubectl apply -f job.yaml (-A looks in all namespaces)"
    return job_table(bodies, datetime.now(UTC), namespaces=namespaces, width=width)


def _watch(ask: Any, *, namespaces: bool) -> None:
    import time

    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        while True:
            live.update(Text(_table(ask(), screen_width(), namespaces=namespaces), no_wrap=True), refresh=True)
            time.sleep(REFRESH_SECONDS)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(get)
