"""`evalfleet operator`: run the operator against the cluster of the service account or the kubeconfig."""

import typer


def operator() -> None:
    """Reconcile EvaluationJobs and ScalingPolicies until stopped; settings are EVALFLEET_* variables."""
    import asyncio

    from evalfleet.cli.exits import Exit
    from evalfleet.cli.output import fail
    from evalfleet.controller.app import run_operator, settings_of_process
    from evalfleet.controller.logs import log_to_stderr
    from evalfleet.controller.settings import SettingsError
    from evalfleet.kube.client import KubeconfigError

    try:
        settings = settings_of_process()
    except SettingsError as error:
        fail(f"the operator is not started: {error}", Exit.CANNOT_SUCCEED)
    log_to_stderr(settings.log_format)
    try:
        code = asyncio.run(run_operator(settings))
    except KubeconfigError as error:
        fail(
            f"no cluster to serve: {error} Set KUBECONFIG, or run in a pod with a service account", Exit.CANNOT_SUCCEED
        )
    raise typer.Exit(code)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(operator)
