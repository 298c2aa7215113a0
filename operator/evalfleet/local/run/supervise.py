"""Supervising the processes of a local run: plan, N workers that may die at any time, finish."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evalfleet.local.run.display import Display
from evalfleet.local.run.identity import identified
from evalfleet.local.run.layout import Seat, seats
from evalfleet.local.run.localrun import LocalRun
from evalfleet.local.run.machine import this_machine
from evalfleet.local.run.processes import Launch, Process, start, start_worker
from evalfleet.local.run.reactions import Reaction, WorkerExit, react
from evalfleet.local.run.snapshot import Snapshot, snapshot
from evalfleet.local.run.steps import error_of, run_silent_step, run_step
from evalfleet_worker.protocol import ExitCode, FailureReason, FinishReport, PlanReport, RunError, RunOutcome

POLL_SECONDS = 0.25
STOP_GRACE_SECONDS = 20.0
FINISH_ATTEMPTS = 3
EVERYBODY = "*"

Observer = Callable[["Supervisor", Snapshot], None]


def run_local(run: LocalRun, display: Display, observer: Observer | None = None) -> FinishReport:
    """Plan, score and finish `run`; resumes whatever an earlier attempt left in the store.

    Raises:
        RunError: in words, when the run cannot succeed as it is.
        KeyboardInterrupt: after the workers have been stopped in good order.
    """
    begun = time.monotonic()
    machine = this_machine(run.wish.device)
    run = identified(run, display)
    if (shown := _finished_before(run, display)) is not None:
        return shown
    plan, launch = plan_run(run, display), run.prepare()
    planned = time.monotonic()
    places = seats(machine, plan.memory_bytes, run.wish)
    give_back(launch, EVERYBODY)  # this process holds the run's lock: whoever held claims before is dead
    for _ in range(FINISH_ATTEMPTS):
        _score(launch, display, plan, places, observer)
        display.event("all units are committed: computing metrics and intervals")
        scored = time.monotonic()
        report = run_step(launch, "finish", FinishReport, display)
        if report.outcome != RunOutcome.INCOMPLETE:
            run.remember_finished()
            display.event(_wall(begun, planned, scored))
            return report
        display.event(f"{report.units_left} units were damaged and are scored again")
        give_back(launch, EVERYBODY)
    raise RunError(FailureReason.STORE_CORRUPT, "units keep being damaged in the store: check its disk")


def _finished_before(run: LocalRun, display: Display) -> FinishReport | None:
    """The report of a run that ended here before, unless its store has lost it since."""
    if run.last_finished() != run.spec.run_id:
        return None
    try:
        report = published_report(run, display)
    except RunError as error:
        if error.reason is not FailureReason.INCOMPLETE:
            raise
        return None
    return None if report.outcome == RunOutcome.INCOMPLETE else report


def plan_run(run: LocalRun, display: Display) -> PlanReport:
    """Plan `run`, or adopt its plan.

    Raises:
        RunError: in words, when it cannot succeed as it is.
    """
    display.event(f"planning {run.spec.name}: {', '.join(e.name for e in run.spec.evaluations)}")
    plan = run_step(run.prepare(), "plan", PlanReport, display)
    display.event(describe_plan(plan))
    for message in (*(failure.message for failure in plan.refused), *plan.messages):
        display.event(f"! {message}")
    return plan


def published_report(run: LocalRun, display: Display) -> FinishReport:
    """The report of a finished run; outcome Incomplete while units are left.

    Raises:
        RunError: the run was never planned, or its store cannot be read.
    """
    return run_step(run.prepare(), "finish", FinishReport, display)


def _wall(begun: float, planned: float, scored: float) -> str:
    """Where the wall-clock time of the run went, in words."""
    now = time.monotonic()
    parts = f"plan {planned - begun:.1f} s, score {scored - planned:.1f} s, finish {now - scored:.1f} s"
    return f"wall-clock time {now - begun:.1f} s: {parts}"


def fetch(run: LocalRun, display: Display) -> None:
    """Bring the run's model into the cache.

    Raises:
        RunError: it cannot be had or read.
    """
    run_silent_step(run.prepare(), "fetch", display)


def give_back(launch: Launch, worker: str) -> None:
    """Give back the claims of a worker that is known to be dead."""
    name = "release" if worker == EVERYBODY else f"{worker}-release"
    start(launch, "release", name, {"--worker": worker}).popen.wait()


def _score(
    launch: Launch, display: Display, plan: PlanReport, places: Sequence[Seat], observer: Observer | None
) -> None:
    supervisor = Supervisor(launch, display)
    try:
        supervisor.score(plan, places, observer)
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
    _broken: set[str] = field(default_factory=set)
    """Devices on which a worker ended broken."""
    _nothing_left: bool = False
    """A worker found nothing left to claim."""

    def score(self, plan: PlanReport, places: Sequence[Seat], observer: Observer | None) -> None:
        """Run workers until one of them finds nothing left; dead ones are replaced."""
        state = Snapshot(plan.requests, plan.cached_requests, 0.0, (), 0.0)
        begun = time.monotonic()
        for seat in places[: plan.units]:
            self._start_worker(seat)
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

    def _start_worker(self, seat: Seat) -> None:
        self._started += 1
        worker = start_worker(self.launch, f"worker-{self._started}", seat)
        self.live.append(worker)
        cores = f"{seat.threads} thread{'s' * (seat.threads > 1)}"
        self.display.event(f"{worker.name} started on {seat.device} with {cores} (pid {worker.popen.pid})")

    def _ended(self, worker: Process) -> None:
        self.live.remove(worker)
        place = worker.seat.device if worker.seat else ""
        how = WorkerExit(
            worker.name,
            worker.popen.returncode,
            worker.error(),
            worker.stopped,
            broken_before=place in self._broken,
            alone=not self.live and not self._nothing_left,
        )
        reaction = react(how, self._crashes)
        self.display.event(reaction.message)
        self._crashes += reaction.crash
        self._broken |= {place} if reaction.broken else set()
        self._nothing_left |= how.code == ExitCode.DONE
        self._apply(worker, reaction)

    def _apply(self, worker: Process, reaction: Reaction) -> None:
        if reaction.give_up:
            raise error_of(worker)
        if reaction.release:
            give_back(self.launch, worker.name)
        if reaction.replace and worker.seat is not None:
            self._start_worker(worker.seat)
