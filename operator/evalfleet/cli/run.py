"""`evalfleet run`: an EvaluationJob on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from evalfleet.cli.output import Format

NEEDED = ("torch", "obstore", "lm_eval")


def run(
    manifest: Annotated[Path, typer.Argument(help="EvaluationJob file (YAML or JSON).")],
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Worker processes. Default: maxWorkers or one per core.")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Run store: a folder, file://, s3://, gs:// or az://. Default: spec.store.uri.")
    ] = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="What is printed on stdout.")] = Format.TABLE,
    cache: Annotated[
        Path | None, typer.Option(envvar="EVALFLEET_CACHE", help="Folder for models. Default: the user's cache.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    allow_remote_code: Annotated[
        bool, typer.Option(help="Second key to model.trustRemoteCode: run Python code shipped with the model.")
    ] = False,
    allow_unsafe_code: Annotated[
        bool, typer.Option(help="Second key to confirmRunUnsafeCode: run code that a model or a user wrote.")
    ] = False,
) -> None:
    """Evaluate on this machine with several workers; resumable after Ctrl-C, kill -9 or power loss.

    Run the same command again to resume. Exit codes: 0 success, 1 no full score, 2 wrong manifest, 3 cannot succeed as
    it is, 130 interrupted.
    """
    from importlib.util import find_spec

    from evalfleet.local.run.command import LocalOptions, run_manifest

    for name in NEEDED:  # the workers are other processes: their tracebacks would end in their logs
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    run_manifest(manifest, LocalOptions(workers, store, output, cache, quiet, allow_remote_code, allow_unsafe_code))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)
