"""`evalfleet validate`: check manifests without running anything."""

from pathlib import Path
from typing import Annotated

import typer


def validate(manifests: Annotated[list[Path], typer.Argument(help="EvaluationJob files (YAML or JSON).")]) -> None:
    """Check manifests: unknown or contradictory fields are errors with the path of the field."""
    from evalfleet.api.manifest import ManifestError, read_evaluation_job
    from evalfleet.cli.output import USAGE_ERROR

    failed = False
    for path in manifests:
        try:
            job = read_evaluation_job(path)
        except ManifestError as error:
            failed = True
            typer.echo(str(error), err=True)
        else:
            typer.echo(f"{path}: {job.metadata.name} is valid ({len(job.spec.evaluations)} evaluations)")
    if failed:
        raise typer.Exit(USAGE_ERROR)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(validate)
