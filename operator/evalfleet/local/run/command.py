"""The `run` command's body: manifest to LocalRun, errors to exit codes, report to stdout."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, read_evaluation_job
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail
from evalfleet.local.run.display import make_display
from evalfleet.local.run.lock import RunBusyError, run_lock
from evalfleet.local.run.report import print_report
from evalfleet.local.run.supervise import LocalRun, Observer, published_report, run_local
from evalfleet.manifests.runspec import RunPlace, run_spec
from evalfleet_worker.protocol import FinishReport, RunError, RunSpec

LOCAL_NAMESPACE = "local"
DEFAULT_STORE = ".evalfleet"
LOCAL_UNIT_SECONDS = 2.0
"""Small units: a local directory costs nothing per unit, and the last ones decide when a run ends."""
CLUSTER_ONLY = {
    "policy_name": "policyName",
    "sla": "sla",
    "budget": "budget",
    "worker": "worker",
    "active_deadline_seconds": "activeDeadlineSeconds",
    "ttl_seconds_after_finished": "ttlSecondsAfterFinished",
}


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """Options of `evalfleet run`; None = default."""

    workers: int | None = None
    store: str | None = None
    output: Format = Format.TABLE
    cache: Path | None = None
    quiet: bool = False
    allow_remote_code: bool = False
    allow_unsafe_code: bool = False


def run_manifest(manifest: Path, options: LocalOptions, observer: Observer | None = None) -> FinishReport:
    """Run the manifest and print its report; ends the command with the documented exit code when it cannot."""
    try:
        job = read_evaluation_job(manifest)
    except ManifestError as error:
        fail(str(error), Exit.USAGE)
    run = local_run(job, manifest.resolve().parent, options)
    try:
        with run_lock(run.log_folder), make_display(options.quiet) as display:
            for field in ignored_locally(job):
                display.event(f"spec.{field} has no effect on one machine; a cluster honours it")
            report = run_local(run, display, observer)
    except RunError as error:
        fail(f"{error.reason}: {error.message}", Exit.CANNOT_SUCCEED)
    except RunBusyError as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    except KeyboardInterrupt:
        fail("interrupted: what is done is kept; run the same command again to resume", Exit.INTERRUPTED)
    print_report(report, options.output)
    if report.outcome != "Complete":
        raise typer.Exit(Exit.NO_FULL_SCORE)
    return report


def show_results(manifest: Path, options: LocalOptions) -> None:
    """Print the published report of a local run, or say what is missing."""
    try:
        job = read_evaluation_job(manifest)
        report = published_report(local_run(job, manifest.resolve().parent, options))
    except ManifestError as error:
        fail(str(error), Exit.USAGE)
    except RunError as error:
        fail(f"{error.reason}: {error.message}", Exit.CANNOT_SUCCEED)
    if report.outcome == "Incomplete":
        fail(
            f"no results yet: {report.units_left} units are left; `evalfleet run {manifest}` resumes",
            Exit.CANNOT_SUCCEED,
        )
    print_report(report, options.output)


def local_run(job: EvaluationJob, folder: Path, options: LocalOptions) -> LocalRun:
    """The LocalRun of a job; `file://./...` URIs are relative to `folder`, where the manifest lies."""
    store = options.store or (job.spec.store.uri if job.spec.store else DEFAULT_STORE)
    place = RunPlace(LOCAL_NAMESPACE, "", store_uri(store), options.allow_remote_code, options.allow_unsafe_code)
    spec = resolve_paths(run_spec(job, place), folder)
    spec = replace(spec, run_id=f"{spec.name}-{spec.digest()[:12]}", unit_seconds=LOCAL_UNIT_SECONDS)
    cores = os.cpu_count() or 1
    workers = options.workers or job.spec.max_workers or cores
    cache = options.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalfleet"
    return LocalRun(spec, workers, max(1, cores // workers), cache, cache / "runs" / spec.run_id)


def resolve_paths(spec: RunSpec, folder: Path) -> RunSpec:
    """Make `file://./...` and `file://../...` URIs of the spec absolute."""
    model = replace(
        spec.model,
        uri=_absolute(spec.model.uri, folder),
        tokenizer_uri=_absolute(spec.model.tokenizer_uri, folder) if spec.model.tokenizer_uri else None,
    )
    return replace(spec, model=model, data_uri=_absolute(spec.data_uri, folder) if spec.data_uri else None)


def store_uri(store: str) -> str:
    """A store URI; a plain path becomes an absolute file:// URI."""
    return store if "://" in store else f"file://{Path(store).resolve()}"


def ignored_locally(job: EvaluationJob) -> list[str]:
    """JSON names of the set fields that only a cluster honours."""
    return [name for field, name in CLUSTER_ONLY.items() if getattr(job.spec, field) is not None]


def _absolute(uri: str, folder: Path) -> str:
    path = uri.removeprefix("file://")
    return f"file://{(folder / path).resolve()}" if path != uri and path.startswith(".") else uri
