"""`evalfleet results`: the published numbers of a finished evaluation."""

from pathlib import Path
from typing import Annotated

import typer

from evalfleet.cli.connection import Context, Namespace, Place
from evalfleet.cli.output import Format, Output
from evalfleet.cli.run import Cache


def results(
    target: Annotated[str, typer.Argument(help="A manifest that was run here, or the name of an EvaluationJob.")],
    store: Annotated[str | None, typer.Option(help="Run store of the local run. Default as in `run`.")] = None,
    namespace: Namespace = None,
    context: Context = None,
    cache: Cache = None,
    output: Output = Format.TABLE,
) -> None:
    """Show results with intervals: of a local run by its manifest, of a cluster's EvaluationJob by its name."""
    if Path(target).is_file():
        from evalfleet.local.run.command import LocalOptions, show_results

        show_results(Path(target), LocalOptions(store=store, output=output, cache=cache))
        return
    from evalfleet.cli.cluster_results import show_cluster_results

    show_cluster_results(target, Place(namespace, context), output)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(results)
