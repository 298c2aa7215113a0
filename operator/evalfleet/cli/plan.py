"""`evalfleet plan`: the plan of an EvaluationJob alone: its size, and whether it can succeed."""

from typing import Annotated

import typer

from evalfleet.cli.output import Format, Output
from evalfleet.cli.run import Cache, Manifest, Quiet, RemoteCode, UnsafeCode, need_worker_packages


def plan(
    manifest: Manifest,
    store: Annotated[
        str | None, typer.Option(help="Keep the plan in this run store for `run`. Default: the plan is thrown away.")
    ] = None,
    output: Output = Format.TABLE,
    cache: Cache = None,
    quiet: Quiet = False,
    allow_remote_code: RemoteCode = False,
    allow_unsafe_code: UnsafeCode = False,
) -> None:
    """Check model, tokenizer, tasks and data, and say how large the evaluation is; nothing is scored.

    Exit codes: 0 it can succeed, 2 wrong options or manifest, 3 it cannot succeed as it is (the message says why).
    """
    from evalfleet.local.run.command import LocalOptions
    from evalfleet.local.run.planning import plan_manifest

    need_worker_packages()
    options = LocalOptions(
        store=store,
        output=output,
        cache=cache,
        quiet=quiet,
        allow_remote_code=allow_remote_code,
        allow_unsafe_code=allow_unsafe_code,
    )
    plan_manifest(manifest, options)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)
