"""Results of an EvaluationJob in a cluster, from its status."""

import asyncio
from typing import Any

from evalfleet.adapters.kube import UNREACHABLE, Kube, KubeError
from evalfleet.cache import Key
from evalfleet.cli.output import RUN_ERROR, Format, fail, print_data
from evalfleet.localrun.report import print_report
from evalfleet.resources import object_path
from evalfleet_worker.protocol import FinishReport, Result, SampleCounts, TimeLedger

SHOWN = ("results", "samples", "time", "resultsUri")


def show_cluster_results(name: str, namespace: str, form: Format) -> None:
    """Print the results of an EvaluationJob, or end the command with the reason why there are none."""
    try:
        body = asyncio.run(_get(Key("EvaluationJob", namespace, name)))
    except (*UNREACHABLE, KubeError) as error:
        fail(f"EvaluationJob {namespace}/{name}: {error}", RUN_ERROR)
    status = body.get("status") or {}
    if not status.get("results"):
        ready: dict[str, Any] = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), {})
        fail(
            f"{namespace}/{name} has no results: {ready.get('message', 'the operator has not seen it yet')}", RUN_ERROR
        )
    if form is not Format.TABLE:
        print_data({key: status[key] for key in SHOWN if key in status}, form)
        return
    print_report(report_of(name, status), form)


def report_of(name: str, status: dict[str, Any]) -> FinishReport:
    """The status of a finished EvaluationJob as a report."""
    samples, time = status.get("samples") or {}, status.get("time") or {}
    return FinishReport(
        run_id=name,
        outcome="Complete",
        results=tuple(_result(row) for row in status["results"]),
        samples=SampleCounts(
            samples.get("planned", 0),
            samples.get("scored", 0),
            samples.get("executedTwice", 0),
            samples.get("mismatched", 0),
        ),
        time=TimeLedger(
            model_load_seconds=time.get("modelLoadSeconds", 0),
            scoring_seconds=time.get("scoringSeconds", 0),
            wasted_seconds=time.get("wastedGpuSeconds", 0),
        ),
        results_uri=status.get("resultsUri", ""),
    )


def _result(row: dict[str, Any]) -> Result:
    numbers = {key: float(row[key]) if key in row else None for key in ("standardError", "low", "high")}
    return Result(
        evaluation=row["evaluation"],
        metric=row["metric"],
        value=float(row["value"]),
        standard_error=numbers["standardError"],
        low=numbers["low"],
        high=numbers["high"],
        n=int(row.get("n", 0)),
    )


async def _get(key: Key) -> dict[str, Any]:
    kube = await Kube.connect_default()
    try:
        return await kube.get(object_path(key))
    finally:
        await kube.close()
