"""`evalfleet operator`: run the operator against the cluster of the service account or the kubeconfig."""

import typer


def operator() -> None:
    """Reconcile EvaluationJobs and ScalingPolicies until stopped; settings are EVALFLEET_* variables."""
    import asyncio
    import os

    from evalfleet.cli.exits import Exit
    from evalfleet.cli.output import fail
    from evalfleet.controller.app import run_operator
    from evalfleet.controller.logs import log_to_stderr
    from evalfleet.kube.client import KubeconfigError

    log_to_stderr(os.environ)
    try:
        code = asyncio.run(run_operator())
    except KubeconfigError as error:
        fail(
            f"no cluster to serve: {error} Set KUBECONFIG, or run in a pod with a service account", Exit.CANNOT_SUCCEED
        )
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(operator)
