"""The worker commands; heavy imports happen inside the command that needs them."""

import argparse
import dataclasses
import json
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalfleet_worker.harness.startup import TorchNeededError, restart_with_torch
from evalfleet_worker.protocol import (
    BrokenWorkerError,
    ErrorReport,
    ExitCode,
    FailureReason,
    FinishReport,
    RunError,
    RunSpec,
    dumps,
    fitting,
    from_json,
    loads,
    require_version,
)
from evalfleet_worker.store.errors import StoreUnavailableError

log = logging.getLogger("evalfleet_worker")

ENGINE = "evalfleet_worker.engine.load:load_engine"
TERMINATION_LIMIT_BYTES = 4_000
"""Kubernetes keeps 4,096; a supervisor that reads the file itself may ask for more."""
MAY_PASS = frozenset({FailureReason.INCOMPLETE, FailureReason.INTERNAL_ERROR, FailureReason.ENGINE_CRASHED})
"""Reasons worth another try; all others are fatal."""

ELSEWHERE = frozenset({FailureReason.NO_USABLE_ACCELERATOR, FailureReason.OTHER_NUMERICS})
"""Reasons of one worker's place, not of the run: another worker elsewhere may succeed."""


@dataclass(frozen=True, slots=True)
class Options:
    """What every command is told."""

    run: RunSpec
    cache: Path
    progress: str | None
    worker: str
    termination_log: Path | None
    termination_limit: int
    print_report: bool


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code is `protocol.ExitCode`."""
    parsed = _parser().parse_args(arguments)
    if parsed.device:
        os.environ["EVALFLEET_DEVICE"] = parsed.device  # also for the engine's process
    _log_to_stderr()
    if parsed.command == "devices":
        return int(devices())
    try:
        return int(COMMANDS[parsed.command](_options(parsed)))
    except BrokenWorkerError as error:
        _tell(parsed, ErrorReport(error.reason, error.message))
        log.error("%s: %s", error.reason, error.message)  # noqa: TRY400 - the message is for people, not a trace
        return int(ExitCode.BROKEN_WORKER)
    except RunError as error:
        _tell(parsed, ErrorReport(error.reason, error.message))
        log.error("%s: %s", error.reason, error.message)  # noqa: TRY400 - the message is for people, not a trace
        return int(_exit_code(error.reason, parsed.command))
    except TorchNeededError as error:
        log.info("%s is needed by a task: starting anew with it", error)
        restart_with_torch()
    except StoreUnavailableError as error:
        _tell(parsed, ErrorReport(FailureReason.STORE_UNAVAILABLE, f"the store does not answer: {error}"))
        log.error("the store does not answer: %s", error)  # noqa: TRY400 - as above
        return int(ExitCode.DISRUPTED)
    except Exception as error:  # noqa: BLE001 - the last words of a process go to its termination log
        traceback.print_exc()
        _tell(parsed, ErrorReport(FailureReason.INTERNAL_ERROR, f"{type(error).__name__}: {error}"))
        return int(ExitCode.ERROR)


def _exit_code(reason: FailureReason, command: str) -> ExitCode:
    if reason is FailureReason.PROTOCOL_UNKNOWN:
        return ExitCode.UNKNOWN_PROTOCOL
    if command == "work" and reason in ELSEWHERE:
        return ExitCode.UNSUITABLE
    return ExitCode.ERROR if reason in MAY_PASS else ExitCode.FATAL


def plan(options: Options) -> ExitCode:
    """Plan the run, or adopt its plan."""
    store = _store(options.run)
    known = store.read_plan()
    if known is None:
        from evalfleet_worker.plan.planner import plan_run

        report = plan_run(options.run, store, options.cache, log.info, own_process=True)
    else:
        report = known.report
    return _report(options, report)


def work(options: Options) -> ExitCode:
    """Score units until nothing is left."""
    from evalfleet_worker.loop.coordinator import Coordinator, Owner
    from evalfleet_worker.loop.engine_process import EngineProcess
    from evalfleet_worker.loop.meter import Meter
    from evalfleet_worker.loop.watchdog import Watchdog, WatchdogSettings
    from evalfleet_worker.loop.work import Worker
    from evalfleet_worker.serve import serve_progress

    store = _store(options.run, quick_to_fail=True)
    if store.read_summary() is not None:
        return ExitCode.DONE
    planned = store.read_plan()
    if planned is None:
        raise RunError(FailureReason.INCOMPLETE, "the run has no plan yet: run the plan command first")
    run = dataclasses.replace(options.run, resolved=planned.numerics)
    owner = Owner(os.urandom(8).hex(), options.worker)
    coordinator = Coordinator(store, planned, owner, _monotonic, _claim_settings(os.environ))
    engine = EngineProcess(run, os.environ.get("EVALFLEET_ENGINE", ENGINE), options.cache)
    grace = float(os.environ.get("EVALFLEET_GRACE_SECONDS", "15"))
    watchdog = Watchdog(WatchdogSettings.of(os.environ))
    worker = Worker(coordinator, engine, Meter(options.worker), grace, watchdog)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop.set())
    if options.progress:
        try:
            serve_progress(options.progress, lambda: worker.meter.progress(coordinator))
        except OSError as error:  # who cannot be watched still works
            log.warning("progress cannot be served on %s: %s", options.progress, error)
    return worker.run()


def finish(options: Options) -> ExitCode:
    """Merge, compute metrics and publish, or return what is published."""
    from evalfleet_worker.claims import as_claim, mounted_folders

    report = _finished(options)
    results_uri = as_claim(report.results_uri, mounted_folders(os.environ))
    return _report(options, dataclasses.replace(report, results_uri=results_uri))


def _finished(options: Options) -> FinishReport:
    store = _store(options.run)
    published = store.read_summary()
    if published is not None:
        return dataclasses.replace(from_json(FinishReport, published), published=store.published_at())
    from evalfleet_worker.finish.finisher import finish_run

    return finish_run(options.run, store, options.cache, own_process=True, progress=log.info)


def release(options: Options) -> ExitCode:
    """Give back the claims of a worker that is known to be dead; `*` means all workers."""
    from evalfleet_worker.loop.coordinator import release_worker

    store = _store(options.run)
    planned = store.read_plan()
    if planned is not None:
        count = release_worker(store, planned, None if options.worker == "*" else options.worker)
        log.info("%d claims of %s given back", count, options.worker)
    return ExitCode.DONE


def fetch(options: Options) -> ExitCode:
    """Bring the model into the node cache and prove that it can be scored."""
    from evalfleet_worker.model.check import check_model
    from evalfleet_worker.model.resolve import resolve_model

    model = resolve_model(options.run.model, options.cache)
    for proof in check_model(model, options.run):
        proof.check()
    log.info("model %s is at %s", options.run.model.uri, model.path)
    return ExitCode.DONE


def devices() -> ExitCode:
    """Print what this machine computes with, as JSON; needs no run."""
    from evalfleet_worker.engine.accelerator import asked_of
    from evalfleet_worker.engine.visible import devices_report, look

    print(json.dumps(devices_report(look(), asked_of(os.environ))))  # noqa: T201 - asked for
    return ExitCode.DONE


def identity(options: Options) -> ExitCode:
    """Print digests of the model and the data that the run would read now."""
    from evalfleet_worker.identity import run_identity

    return _report(dataclasses.replace(options, print_report=True), run_identity(options.run, options.cache))


COMMANDS: Mapping[str, Callable[[Options], ExitCode]] = {
    "plan": plan,
    "work": work,
    "finish": finish,
    "release": release,
    "fetch": fetch,
    "identity": identity,
}


def _parser() -> argparse.ArgumentParser:
    env = os.environ
    parser = argparse.ArgumentParser(prog="python -m evalfleet_worker", description=__doc__)
    parser.add_argument("command", choices=(*COMMANDS, "devices"))
    parser.add_argument("--spec", type=Path, help="file with the RunSpec as JSON; else EVALFLEET_RUN_SPEC")
    parser.add_argument("--cache", type=Path, default=env.get("EVALFLEET_CACHE"), help="node cache")
    parser.add_argument("--progress", default=env.get("EVALFLEET_PROGRESS_ADDRESS"), help="HOST:PORT of GET /progress")
    parser.add_argument("--worker", default=env.get("EVALFLEET_WORKER"), help="name of the worker")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; else EVALFLEET_DEVICE, else what the run says")
    parser.add_argument("--termination-log", type=Path, default=env.get("EVALFLEET_TERMINATION_LOG"))
    parser.add_argument(
        "--termination-limit",
        type=int,
        default=int(env.get("EVALFLEET_TERMINATION_LIMIT", TERMINATION_LIMIT_BYTES)),
        help="bytes of the termination message; results that do not fit are counted",
    )
    parser.add_argument("--print", action="store_true", dest="print_report", help="print the report on stdout")
    return parser


def _options(parsed: argparse.Namespace) -> Options:
    cache = parsed.cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evalfleet"
    return Options(
        run=_run_spec(parsed.spec),
        cache=Path(cache),
        progress=parsed.progress,
        worker=parsed.worker or f"{socket.gethostname()}-{os.getpid()}",
        termination_log=parsed.termination_log,
        termination_limit=parsed.termination_limit,
        print_report=parsed.print_report,
    )


def _run_spec(path: Path | None) -> RunSpec:
    """The run with the addresses that hold in this pod."""
    from evalfleet_worker.claims import mounted_folders, with_folders

    run = _read_run_spec(path)
    _refuse_foreign_endpoints(run)
    return with_folders(run, mounted_folders(os.environ))


def _refuse_foreign_endpoints(run: RunSpec) -> None:
    """Variables come from Secrets as well, which the operator does not read."""
    from evalfleet_worker.places import foreign_endpoint

    if run.allowed_endpoints is None:
        return
    name = foreign_endpoint(os.environ, run.allowed_endpoints)
    if name is not None:
        message = f"variable {name} sends fetches to a place that the policy's security.allowedEndpoints does not name"
        raise RunError(FailureReason.ENDPOINT_FORBIDDEN, message)


def _read_run_spec(path: Path | None) -> RunSpec:
    try:
        text = path.read_text("utf-8") if path is not None else os.environ["EVALFLEET_RUN_SPEC"]
        require_version(json.loads(text), "the run spec")
        return loads(RunSpec, text)
    except KeyError:
        message = "no run spec: give --spec FILE or EVALFLEET_RUN_SPEC"
    except (OSError, ValueError) as error:
        message = f"the run spec cannot be read: {error}"
    raise RunError(FailureReason.INVALID_TASK, message)


def _store(run: RunSpec, quick_to_fail: bool = False) -> Any:
    from evalfleet_worker.store.run_store import RunStore

    return RunStore.open(run.store_uri, run.namespace, run.run_id, quick_to_fail)


def _report(options: Options, report: Any) -> ExitCode:
    if options.termination_log is not None:
        options.termination_log.write_text(fitting(report, options.termination_limit), "utf-8")
    if options.print_report:
        print(dumps(report))  # noqa: T201 - asked for
    return ExitCode.DONE


def _tell(parsed: argparse.Namespace, error: ErrorReport) -> None:
    """Leave the last words where the platform looks for them; failing to do so must not hide the error itself."""
    if parsed.termination_log is None:
        return
    try:
        Path(parsed.termination_log).write_text(fitting(error, parsed.termination_limit), "utf-8")
    except OSError as cause:
        log.warning("termination log %s: %s", parsed.termination_log, cause)


def _claim_settings(environment: Mapping[str, str]) -> Any:
    """Claim durations; EVALFLEET_CLAIM_SETTINGS (JSON) changes single ones for tests and benchmarks."""
    from evalfleet_worker.loop.settings import ClaimSettings

    return ClaimSettings(**json.loads(environment.get("EVALFLEET_CLAIM_SETTINGS", "{}")))


def _monotonic() -> float:
    import time

    return time.monotonic()


def _log_to_stderr() -> None:
    plain = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    as_json = os.environ.get("EVALFLEET_LOG_FORMAT") == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if as_json else logging.Formatter(plain))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """One JSON object per line."""
        content = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)


if __name__ == "__main__":
    sys.exit(main())
