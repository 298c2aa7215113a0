"""`evalfleet validate`: check manifests without running anything."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, Output, fail, print_data

if TYPE_CHECKING:
    from evalfleet.api.manifest import Checked

UNCHECKED = {
    "EvaluationJob": "model, tokenizer, tasks and data; the plan checks them: `evalfleet plan FILE`",
    "ScalingPolicy": "nodes, prices and quotas; only a cluster knows them",
}


def validate(
    manifests: Annotated[
        list[Path], typer.Argument(help="Files of EvaluationJobs and ScalingPolicies, folders of them, or - for stdin.")
    ],
    output: Output = Format.TABLE,
) -> None:
    """Check manifests: every mistake of every file, with the path of its field.

    Files may hold several documents; objects of other kinds are passed over. Says what only the plan can check. Exit
    codes: 0 all in order, 2 a mistake or nothing to check.
    """
    from evalfleet.api.manifest import check_file, files_below

    checked = [found for path in manifests for file in files_below(path) for found in check_file(file)]
    ours = [found for found in checked if not found.foreign]
    if output.for_people:
        _tell(checked)
    else:
        print_data({"documents": [_data(found) for found in checked], "notChecked": _unchecked(ours)}, output)
    if not ours:
        fail(f"no EvaluationJob and no ScalingPolicy in {', '.join(map(str, manifests))}", Exit.USAGE)
    if any(found.problems for found in ours):
        raise typer.Exit(Exit.USAGE)


def _tell(checked: Sequence["Checked"]) -> None:
    for found in checked:
        for problem in found.problems:
            typer.echo(f"{found.source}: {problem}", err=True)
        if not found.problems:
            typer.echo(f"{found.source}: {_verdict(found)}")
    right = [found for found in checked if found.manifest is not None]
    for words in _unchecked(right).values():
        typer.echo(f"not checked here: {words}")
    wrong = sum(bool(found.problems) for found in checked)
    if wrong:
        mistakes = sum(len(found.problems) for found in checked)
        typer.echo(f"{mistakes} mistake{'s' * (mistakes > 1)} in {wrong} of {len(checked)} documents", err=True)


def _verdict(found: "Checked") -> str:
    what = f"{found.kind} {found.name}".strip()
    if found.manifest is None:
        return f"{what or 'no Kubernetes object'}: passed over, none of evalfleet's kinds"
    return f"{what}: in order"


def _unchecked(checked: Iterable["Checked"]) -> dict[str, str]:
    kinds = {found.kind for found in checked}
    return {kind: words for kind, words in UNCHECKED.items() if kind in kinds}


def _data(found: "Checked") -> dict[str, Any]:
    problems = [{"path": problem.path, "message": problem.message} for problem in found.problems]
    state = "Invalid" if found.problems else "PassedOver" if found.foreign else "InOrder"
    return {"source": found.source, "kind": found.kind, "name": found.name, "state": state, "problems": problems}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(validate)
