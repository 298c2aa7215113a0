"""`evalfleet crds`: the CustomResourceDefinitions of this version, for kubectl."""

from typing import Annotated

import typer

from evalfleet.cli.output import Format, print_data


def crds(
    output: Annotated[Format, typer.Option("--output", "-o", help="yaml or json.")] = Format.YAML,
) -> None:
    """Print the CustomResourceDefinitions: `evalfleet crds | kubectl apply --server-side -f -`."""
    from evalfleet.api.crd import evaluation_job_crd, scaling_policy_crd

    definitions = [evaluation_job_crd(), scaling_policy_crd()]
    print_data(
        {"apiVersion": "v1", "kind": "List", "items": definitions},
        Format.JSON if output is Format.JSON else Format.YAML,
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(crds)
