"""`evalfleet operator`: run the operator against the cluster of the service account or the kubeconfig."""

import typer


def operator() -> None:
    """Reconcile EvaluationJobs and ScalingPolicies until stopped; settings are EVALFLEET_* variables."""
    import asyncio
    import logging

    from evalfleet.app import run_operator

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    raise typer.Exit(asyncio.run(run_operator()))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(operator)
