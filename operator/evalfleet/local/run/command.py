"""The `run` command's body: manifest to LocalRun, errors to exit codes, report to stdout."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, read_evaluation_job
from evalfleet.cli.exits import Exit
from evalfleet.cli.output import Format, fail
from evalfleet.local.run.display import make_display
from evalfleet.local.run.identity import to_show
from evalfleet.local.run.layout import Wish
from evalfleet.local.run.limit import TimeOverError, time_limit
from evalfleet.local.run.localrun import LocalRun
from evalfleet.local.run.lock import RunBusyError, run_lock
from evalfleet.local.run.report import print_report
from evalfleet.local.run.steps import StepError
from evalfleet.local.run.supervise import Observer, published_report, run_local
from evalfleet.manifests.runspec import RunPlace, run_spec
from evalfleet_worker.protocol import FailureReason, FinishReport, RunError, RunOutcome, RunSpec

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
    """Options of the commands that run a manifest here; None = default."""

    wish: Wish = field(default_factory=Wish)
    store: str | None = None
    output: Format = Format.TABLE
    cache: Path | None = None
    quiet: bool = False
    allow_remote_code: bool = False
    allow_unsafe_code: bool = False
    timeout: float | None = None
    """Seconds after which the run is stopped in good order."""


def run_manifest(manifest: Path, options: LocalOptions, observer: Observer | None = None) -> FinishReport:
    """Run the manifest and print its report; ends the command with the documented exit code when it cannot."""
    with ended_in_words():
        job, run = read_run(manifest, options)
        with time_limit(options.timeout), run_lock(run.log_folder), make_display(options.quiet) as display:
            for field in ignored_locally(job):
                display.event(f"spec.{field} has no effect on one machine; a cluster honours it")
            report = run_local(run, display, observer)
    print_report(report, options.output)
    if report.outcome != RunOutcome.COMPLETE:
        raise typer.Exit(Exit.NO_FULL_SCORE)
    return report


def show_results(manifest: Path, options: LocalOptions) -> None:
    """Print the published report of a local run, or say what is missing; exit codes as of the run itself."""
    with ended_in_words():
        _, run = read_run(manifest, options)
        run, warnings = to_show(run, make_display(quiet=True))
        report = _published(run, manifest)
        report = replace(report, messages=(*report.messages, *warnings))
    if report.outcome == RunOutcome.INCOMPLETE:
        left = f"{report.units_left} units are left; `evalfleet run {manifest}` resumes"
        fail(f"no results yet: {left}", Exit.CANNOT_SUCCEED)
    print_report(report, options.output)
    if report.outcome != RunOutcome.COMPLETE:
        raise typer.Exit(Exit.NO_FULL_SCORE)


def _published(run: LocalRun, manifest: Path) -> FinishReport:
    try:
        return published_report(run, make_display(quiet=True))
    except RunError as error:
        if error.reason is not FailureReason.INCOMPLETE:
            raise
        fail(f"no results yet, no plan yet: `evalfleet run {manifest}` makes them", Exit.CANNOT_SUCCEED)


@contextmanager
def ended_in_words() -> Iterator[None]:
    """Ends the command with the documented exit code for everything that can go wrong with a run, and with its log."""
    try:
        yield
    except ManifestError as error:
        fail(str(error), Exit.USAGE)
    except StepError as error:
        fail(f"{error.reason}: {error.message}\nlog: {error.log}", Exit.CANNOT_SUCCEED)
    except RunError as error:
        fail(f"{error.reason}: {error.message}", Exit.CANNOT_SUCCEED)
    except RunBusyError as error:
        fail(str(error), Exit.CANNOT_SUCCEED)
    except TimeOverError:
        fail("--timeout is over: what is done is kept; run the same command again to resume", Exit.TIMEOUT)
    except KeyboardInterrupt:
        fail("interrupted: what is done is kept; run the same command again to resume", Exit.INTERRUPTED)


def read_run(manifest: Path, options: LocalOptions) -> tuple[EvaluationJob, LocalRun]:
    """The job of a manifest and its run on this machine.

    Raises:
        ManifestError: with the path of every offending field.
    """
    job = read_evaluation_job(manifest)
    return job, local_run(job, manifest.resolve().parent, options)


def local_run(job: EvaluationJob, folder: Path, options: LocalOptions) -> LocalRun:
    """The LocalRun of a job; `file://./...` URIs are relative to `folder`, where the manifest lies."""
    store = options.store or (job.spec.store.uri if job.spec.store else DEFAULT_STORE)
    place = RunPlace(LOCAL_NAMESPACE, "", store_uri(store), options.allow_remote_code, options.allow_unsafe_code)
    spec = resolve_paths(run_spec(job, place), folder)
    kind = "Auto" if options.wish.device == "auto" else options.wish.device.partition(":")[0]
    spec = replace(spec, device_kind=kind, unit_seconds=LOCAL_UNIT_SECONDS)
    spec = replace(spec, run_id=f"{spec.name}-{spec.digest()[:12]}")
    wish = replace(options.wish, most=options.wish.most or job.spec.max_workers)
    cache = options.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalfleet"
    runs = cache.absolute() / "runs"
    return LocalRun(
        spec, wish, cache.absolute(), runs / spec.run_id, runs / f"{spec.name}-{_manifest_digest(spec)}.json"
    )


def _manifest_digest(spec: RunSpec) -> str:
    """Digest of what the manifest alone says, whatever device and permits the command line gave."""
    model = replace(spec.model, trust_remote_code=False)
    return replace(spec, model=model, device_kind="Auto", allow_unsafe_code=False).digest()[:12]


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
