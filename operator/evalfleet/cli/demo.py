"""`evalfleet demo`: the main job on an embedded default."""

from pathlib import Path
from typing import Annotated

import typer

from evalfleet.cli.output import Format, Output


def demo(
    workers: Annotated[int, typer.Option(min=2, max=64, help="Worker processes.")] = 3,
    output: Output = Format.TABLE,
    folder: Annotated[Path, typer.Option(help="Where data, manifest and store are written.")] = Path(".evalfleet/demo"),
    cluster: Annotated[bool, typer.Option(help="On a local Kubernetes cluster, with a reclaimed spot node.")] = False,
    setup_only: Annotated[bool, typer.Option(help="Only read the model into the cache (half a minute, once).")] = False,
) -> None:
    """Evaluate a real language model with several workers, kill one in the middle, show that nothing is lost."""
    from evalfleet.local.demo.local import fetch_model, run_demo

    if setup_only:
        fetch_model(folder)
        return
    if cluster:
        from evalfleet.local.demo.cluster import run_cluster_demo

        run_cluster_demo(folder, output)
        return
    run_demo(folder, workers, output)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
