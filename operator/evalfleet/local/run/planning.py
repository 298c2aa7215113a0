"""The `plan` command's body: a plan in a store of its own, and what it says about the evaluation."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from evalfleet.cli.exits import Exit
from evalfleet.cli.output import print_data, screen_width
from evalfleet.cli.table import printable, wrapped
from evalfleet.local.run.command import LocalOptions, ended_in_words, read_run, store_uri
from evalfleet.local.run.display import Display, make_display
from evalfleet.local.run.identity import identified
from evalfleet.local.run.localrun import LocalRun
from evalfleet.local.run.report import failure_words
from evalfleet.local.run.steps import StepError
from evalfleet.local.run.supervise import plan_run
from evalfleet_worker.protocol import PlanReport, to_json

UNCHECKED = "not checked here: deadline, budget, prices and the store of a cluster"


def plan_manifest(manifest: Path, options: LocalOptions) -> PlanReport:
    """Plan the manifest and print its size; ends the command with the reason when it cannot succeed."""
    with ended_in_words():
        _, run = read_run(manifest, options)
        with make_display(options.quiet) as display, _planned_at(run, options.store, display) as place:
            try:
                report = plan_run(place, display)
            except StepError as error:
                if not options.output.for_people:
                    print_data(refusal_data(error), options.output)
                raise
    if options.output.for_people:
        typer.echo(plan_text(run.spec.name, report, screen_width(options.output)))
    else:
        print_data({"canSucceed": not report.refused, **to_json(report)}, options.output)
    if report.refused:
        raise typer.Exit(Exit.CANNOT_SUCCEED)
    return report


@contextmanager
def _planned_at(run: LocalRun, store: str | None, display: Display) -> Iterator[LocalRun]:
    """The run in the store that was asked for, else in one that is thrown away: a check leaves nothing behind."""
    if store is not None:
        yield identified(run, display)
        return
    with tempfile.TemporaryDirectory(prefix="evalfleet-plan-") as folder:
        yield replace(run, spec=replace(run.spec, store_uri=store_uri(folder)))


def refusal_data(error: StepError) -> dict[str, Any]:
    """Why a plan was refused, for programs."""
    return {"canSucceed": False, "reason": str(error.reason), "message": error.message, "log": str(error.log)}


def plan_text(name: str, plan: PlanReport, width: int | None) -> str:
    """A plan in words, as wide as the screen."""
    facts = {
        "samples": f"{plan.samples}",
        "requests": f"{plan.requests}" + (f", {plan.cached_requests} answered already" * bool(plan.cached_requests)),
        "tokens": f"{plan.tokens}",
        "units": f"{plan.units}",
        "work": f"{plan.flops / 1e12:.3g} TFLOP, about {max(plan.predicted_seconds, 1):.0f} s of one CPU core",
        "memory": f"{plan.memory_bytes / 2**30:.2f} GiB for one worker",
        "numerics": plan.numerics,
        "model": plan.model_digest,
    }
    left = f"{len(plan.refused)} of its evaluations cannot be scored as written; the others would be"
    lines = [f"EvaluationJob {name} " + (f"cannot have a full score: {left}" if plan.refused else "can succeed")]
    lines += [f"  Refused: {failure_words(failure)}" for failure in plan.refused]
    lines += [f"  {key:<9} {value}" for key, value in facts.items() if value]
    lines += [f"! {message}" for message in plan.messages]
    return "\n".join(part for line in [*lines, UNCHECKED] for part in wrapped(printable(line), width))
