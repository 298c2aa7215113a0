"""Supervising the processes of a local run: plan, N workers that may die at any time, finish."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from evalfleet.local.run.display import Display
from evalfleet.local.run.processes import Launch, Process, start, start_worker, tail
from evalfleet.local.run.reactions import Reaction, WorkerExit, react
from evalfleet.local.run.snapshot import Snapshot, snapshot
from evalfleet_worker.protocol import (
    ErrorReport,
    FailureReason,
    FinishReport,
    PlanReport,
    RunError,
    RunSpec,
    loads,
)

POLL_SECONDS = 0.25
STOP_GRACE_SECONDS = 20.0
FINISH_ATTEMPTS = 3
EVERYBODY = "*"

Report = TypeVar("Report", PlanReport, FinishReport)
Observer = Callable[["Supervisor", Snapshot], None]


@dataclass(frozen=True, slots=True)
class LocalRun:
    """One run on this machine.

    Attributes:
        spec: what to evaluate.
        workers: worker processes at a time.
        threads: compute threads per worker.
        cache: node cache folder.
        log_folder: logs and termination messages of the processes.
    """

    spec: RunSpec
    workers: int
    threads: int
    cache: Path
    log_folder: Path


def run_local(run: LocalRun, display: Display, observer: Observer | None = None) -> FinishReport:
    """Plan, score and finish `run`; resumes whatever an earlier attempt left in the store.

    Raises:
        RunError: in words, when the run cannot succeed as it is.
        KeyboardInterrupt: after the workers have been stopped in good order.
    """
    begun = time.monotonic()
    launch = Launch.prepare(run.spec, run.log_folder, run.cache, run.threads)
    display.event(f"planning {run.spec.name}: {', '.join(e.name for e in run.spec.evaluations)}")
    plan = _step(launch, "plan", PlanReport)
    planned = time.monotonic()
    display.event(describe_plan(plan))
    give_back(launch, EVERYBODY)  # this process holds the run's lock: whoever held claims before is dead
    for _ in range(FINISH_ATTEMPTS):
        _score(launch, display, plan, run.workers, observer)
        display.event("all units are committed: computing metrics and intervals")
        scored = time.monotonic()
        report = _step(launch, "finish", FinishReport)
        if report.outcome != "Incomplete":
            display.event(_wall(begun, planned, scored))
            return report
        display.event(f"{report.units_left} units were damaged and are scored again")
        give_back(launch, EVERYBODY)
    raise RunError(FailureReason.STORE_CORRUPT, "units keep being damaged in the store: check its disk")


def published_report(run: LocalRun) -> FinishReport:
    """The report of a finished run; outcome Incomplete while units are left.

    Raises:
        RunError: the run was never planned, or its store cannot be read.
    """
    return _step(Launch.prepare(run.spec, run.log_folder, run.cache, run.threads), "finish", FinishReport)


def _wall(begun: float, planned: float, scored: float) -> str:
    """Where the wall-clock time of the run went, in words."""
    now = time.monotonic()
    parts = f"plan {planned - begun:.1f} s, score {scored - planned:.1f} s, finish {now - scored:.1f} s"
    return f"wall-clock time {now - begun:.1f} s: {parts}"


def fetch(run: LocalRun) -> None:
    """Bring the run's model into the cache.

    Raises:
        RunError: it cannot be had or read.
    """
    process = start(Launch.prepare(run.spec, run.log_folder, run.cache, run.threads), "fetch", "fetch")
    if _wait(process):
        error = process.error() or ErrorReport(FailureReason.INTERNAL_ERROR, _last_output(process))
        raise RunError(error.reason, error.message)


def give_back(launch: Launch, worker: str) -> None:
    """Give back the claims of a worker that is known to be dead."""
    name = "release" if worker == EVERYBODY else f"{worker}-release"
    _wait(start(launch, "release", name, {"--worker": worker}))


def _score(launch: Launch, display: Display, plan: PlanReport, workers: int, observer: Observer | None) -> None:
    supervisor = Supervisor(launch, display)
    try:
        supervisor.score(plan, workers, observer)
    finally:
        supervisor.stop_all()


def describe_plan(plan: PlanReport) -> str:
    """The plan's size in words."""
    cached = f", {plan.cached_requests} answered from the cache" if plan.cached_requests else ""
    return (
        f"planned {plan.samples} samples: {plan.requests} requests, {plan.tokens} tokens in {plan.units} units{cached};"
        f" about {plan.predicted_seconds:.0f} s of one worker, {plan.memory_bytes / 2**30:.1f} GiB of memory"
    )


@dataclass
class Supervisor:
    """Keeps the wanted number of workers alive until nothing is left to do."""

    launch: Launch
    display: Display
    live: list[Process] = field(default_factory=list)
    _started: int = 0
    _crashes: int = 0

    def score(self, plan: PlanReport, workers: int, observer: Observer | None) -> None:
        """Run workers until one of them finds nothing left; dead ones are replaced."""
        state = Snapshot(plan.requests, plan.cached_requests, 0.0, (), 0.0)
        begun = time.monotonic()
        for _ in range(min(workers, plan.units)):
            self._start_worker()
        while self.live:
            state = snapshot(state, [(w.name, w.poll_progress()) for w in self.live], time.monotonic() - begun)
            self.display.update(state)
            if observer is not None:
                observer(self, state)
            for ended in [worker for worker in self.live if worker.popen.poll() is not None]:
                self._ended(ended)
            time.sleep(POLL_SECONDS)

    def stop_all(self) -> None:
        """Stop what still runs: SIGTERM, the grace, then SIGKILL; their claims are given back."""
        for worker in self.live:
            worker.stop()
        deadline = time.monotonic() + STOP_GRACE_SECONDS
        for worker in self.live:
            try:
                worker.popen.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
        self.live.clear()

    def _start_worker(self) -> None:
        self._started += 1
        worker = start_worker(self.launch, f"worker-{self._started}")
        self.live.append(worker)
        self.display.event(f"{worker.name} started (pid {worker.popen.pid})")

    def _ended(self, worker: Process) -> None:
        self.live.remove(worker)
        reaction = react(
            WorkerExit(worker.name, worker.popen.returncode, worker.error(), worker.stopped), self._crashes
        )
        self.display.event(reaction.message)
        self._crashes += reaction.crash
        self._apply(worker, reaction)

    def _apply(self, worker: Process, reaction: Reaction) -> None:
        if reaction.give_up:
            error = worker.error() or ErrorReport(FailureReason.INTERNAL_ERROR, _last_output(worker))
            raise RunError(error.reason, error.message)
        if reaction.release:
            give_back(self.launch, worker.name)
        if reaction.replace:
            self._start_worker()


def _step(launch: Launch, command: str, kind: type[Report]) -> Report:
    """Run one process to its end and read its report."""
    process = start(launch, command, command)
    try:
        code = _wait(process)
    except BaseException:
        process.kill()
        raise
    error = process.error() if code else None
    if error is not None:
        raise RunError(error.reason, error.message)
    try:
        return loads(kind, process.termination_log.read_bytes())
    except (OSError, ValueError) as cause:
        raise RunError(FailureReason.INTERNAL_ERROR, _last_output(process)) from cause


def _wait(process: Process) -> int:
    while (code := process.popen.poll()) is None:
        time.sleep(0.05)
    return code


def _last_output(process: Process) -> str:
    how = f"{process.name} ended with exit code {process.popen.returncode} and no report"
    return f"{how}; log {process.log}:\n{tail(process.log)}"
