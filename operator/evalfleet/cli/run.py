"""`evalfleet run`: an EvaluationJob on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, Output, fail

NEEDED = ("torch", "obstore", "lm_eval")

Manifest = Annotated[Path, typer.Argument(help="EvaluationJob file (YAML or JSON), or - for stdin.")]
Cache = Annotated[
    Path | None, typer.Option(envvar="EVALFLEET_CACHE", help="Folder for models. Default: the user's cache.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
RemoteCode = Annotated[
    bool, typer.Option(help="Second key to model.trustRemoteCode: run Python code shipped with the model.")
]
UnsafeCode = Annotated[
    bool, typer.Option(help="Second key to confirmRunUnsafeCode: run code that a model or a user wrote.")
]


def run(
    manifest: Manifest,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, help="Worker processes. Default: one per GPU, else per socket; at most maxWorkers."
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            envvar="EVALFLEET_DEVICE", help="auto (GPUs where there are any), cpu, cuda (every GPU) or cuda:N."
        ),
    ] = "auto",
    store: Annotated[
        str | None, typer.Option(help="Run store: a folder, file://, s3://, gs:// or az://. Default: spec.store.uri.")
    ] = None,
    output: Output = Format.TABLE,
    cache: Cache = None,
    quiet: Quiet = False,
    timeout: Annotated[
        str | None, typer.Option(help="Stop in good order after this time (90s, 30m, 2h) and end with 5.")
    ] = None,
    allow_remote_code: RemoteCode = False,
    allow_unsafe_code: UnsafeCode = False,
) -> None:
    """Evaluate on this machine with several workers; resumable after Ctrl-C, kill -9 or power loss.

    Run the same command again to resume. Exit codes: 0 full score, 1 no full score, 2 wrong options or manifest,
    3 cannot succeed as it is, 5 --timeout, 130 interrupted.
    """
    import re

    from evalfleet.local.run.command import LocalOptions, run_manifest
    from evalfleet.local.run.layout import Wish
    from evalfleet.local.run.limit import seconds_of

    need_worker_packages()
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", device):
        fail(f"--device {device}: expected auto, cpu, cuda or cuda:N", Exit.USAGE)
    try:
        seconds = seconds_of(timeout) if timeout else None
    except ValueError as error:
        fail(str(error), Exit.USAGE)
    options = LocalOptions(
        Wish(device, workers), store, output, cache, quiet, allow_remote_code, allow_unsafe_code, seconds
    )
    run_manifest(manifest, options)


def need_worker_packages() -> None:
    """Refuse to start where workers could not: they are other processes, whose tracebacks end in their logs.

    Raises:
        ModuleNotFoundError: naming the first package that is not installed.
    """
    from importlib.util import find_spec

    for name in NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)
