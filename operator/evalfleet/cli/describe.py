"""`evalfleet describe`: one object with its conditions, decision, cost, time and events, in words."""

from typing import Annotated, Any

import typer

from evalfleet.cli.connection import Context, Namespace, Place, Reader, read
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, Output, fail, print_data, screen_width

KINDS = {"evaluationjob": "EvaluationJob", "scalingpolicy": "ScalingPolicy"}
KINDS |= {"evaluationjobs": "EvaluationJob", "evj": "EvaluationJob"}
KINDS |= {"scalingpolicies": "ScalingPolicy", "evp": "ScalingPolicy"}


def describe(
    target: Annotated[str, typer.Argument(help="NAME of an EvaluationJob, or KIND/NAME such as evp/default.")],
    namespace: Namespace = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Tell where an EvaluationJob (or evp/NAME, a ScalingPolicy) is and why, what it costs, and what happened."""
    kind, name = kind_and_name(target)
    body, policy, events = read(Place(namespace, context), target, lambda reader: _ask(reader, kind, name))
    if not output.for_people:
        print_data({"object": body, "policy": policy, "events": events}, output)
        return
    from datetime import UTC, datetime

    from evalfleet.cli.description import View, describe_job, describe_policy

    view = View(datetime.now(UTC), screen_width(output))
    if kind == "EvaluationJob":
        typer.echo(describe_job(body, policy, events, view))
    else:
        typer.echo(describe_policy(body, events, view))


def kind_and_name(target: str) -> tuple[str, str]:
    """Split KIND/NAME as kubectl does; a bare NAME is an EvaluationJob."""
    kind, _, name = target.rpartition("/")
    kind = kind.lower().removesuffix(".evalfleet.io") or "evj"
    if kind not in KINDS or not name:
        fail(f"{target}: expected NAME, evj/NAME or evp/NAME", Exit.USAGE)
    return KINDS[kind], name


async def _ask(reader: Reader, kind: str, name: str) -> tuple[Any, Any, list[Any]]:
    body = await reader.get(kind, name)
    events = await reader.events_of(body["metadata"]["uid"])
    if kind != "EvaluationJob":
        return body, None, events
    return body, await reader.find("ScalingPolicy", body["spec"].get("policyName", "default")), events


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(describe)
