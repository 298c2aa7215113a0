"""The worker's loop: claim, score in the engine process, commit; leave when nothing is left or when told to."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from evalfleet_worker.loop.coordinator import Claim, Coordinator, Done, Wait
from evalfleet_worker.loop.engine_process import EngineProcess, Reply, failure_of_death
from evalfleet_worker.loop.health import Health
from evalfleet_worker.loop.messages import Answers, Died, Failed, FailureKind, Hung, Loaded, Refused, Score
from evalfleet_worker.loop.meter import Meter
from evalfleet_worker.loop.verdict import Verdict
from evalfleet_worker.loop.watchdog import Watchdog
from evalfleet_worker.protocol import BrokenWorkerError, ExitCode, FailureReason, RunError
from evalfleet_worker.requests import Request
from evalfleet_worker.store.objects import StoreUnavailableError

log = logging.getLogger(__name__)

LOAD_ATTEMPTS = 3
POLL_SECONDS = 0.2

T = TypeVar("T")


class StoppedError(Exception):
    """The worker was told to stop."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A claimed unit with its requests."""

    claim: Claim
    requests: list[Request]


@dataclass
class Worker:
    """One worker of a run.

    Attributes:
        coordinator: its side of the claim protocol.
        engine: its engine process.
        meter: what it measures.
        grace_seconds: time it has after it was told to stop.
        watchdog: how long the engine may be silent.
        health: whether this machine is of use.
        stop: set when it is told to stop.
    """

    coordinator: Coordinator
    engine: EngineProcess
    meter: Meter
    grace_seconds: float = 15.0
    watchdog: Watchdog = field(default_factory=Watchdog)
    health: Health = field(default_factory=Health)
    stop: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _last_step: Wait | Done = field(default_factory=Done)
    _stopped_at: float | None = None
    _fingerprint: str = ""
    _failed_in: dict[int, int] = field(default_factory=dict)

    def run(self) -> ExitCode:
        """Work until nothing is left.

        Returns:
            DONE, or TERMINATED after a stop.

        Raises:
            StoreUnavailableError: the store is gone for long: the worker leaves its place.
            BrokenWorkerError: this machine fails whatever it is given.
            RunError: the engine can never be loaded, or the store refuses for good.
        """
        heartbeat = threading.Thread(target=self._heartbeat, daemon=True)
        heartbeat.start()
        try:
            return self._work()
        except StoppedError:
            return ExitCode.TERMINATED
        finally:
            self.meter.state = "Done" if not self.stop.is_set() else "Stopping"
            self._ended.set()
            try:
                self.engine.stop()
            finally:
                self._release_all()

    def _work(self) -> ExitCode:
        prepared = self._prepare()
        if prepared is None and not self._wait_for_work():
            return ExitCode.DONE
        self._load()
        while True:
            if self.stop.is_set():
                raise StoppedError
            prepared = prepared or self._prepare()
            if prepared is not None:
                prepared = self._execute(prepared)
            elif not self._wait_for_work():
                return ExitCode.DONE

    def _prepare(self) -> Prepared | None:
        """Claim the next unit and read its requests."""
        step = self._patiently(self.coordinator.next)
        if not isinstance(step, Claim):
            self._last_step = step
            return None
        requests = self._patiently(lambda: self.coordinator.store.read_unit(self.coordinator.plan, step.unit))
        return Prepared(step, requests)

    def _wait_for_work(self) -> bool:
        """Wait while others are at work; False when nothing is left."""
        if isinstance(self._last_step, Done):
            return False
        self.meter.state = "Waiting"
        if self.stop.wait(self._last_step.seconds):
            raise StoppedError
        return True

    def _load(self) -> None:
        """Start the engine process and wait until it holds the model."""
        self.meter.state = "LoadingModel"
        for attempt in range(LOAD_ATTEMPTS):
            self.engine.start()
            reply = self._receive(self.watchdog.loading(), may_finish=False)
            match reply:
                case Loaded():
                    self._check_model(reply.fingerprint)
                    self._fingerprint = reply.fingerprint
                    self.meter.device, self.meter.model_load_seconds = reply.device, reply.seconds
                    self.meter.engine = reply.words
                    log.info("model loaded on %s in %.1f s; %s", reply.device, reply.seconds, reply.words)
                    return
                case Refused():
                    raise (BrokenWorkerError if reply.of_machine else RunError)(reply.reason, reply.message)
                case Died():
                    failure = failure_of_death(reply)
                case Hung():
                    failure = Failed(FailureReason.ENGINE_HUNG, _hung_words(reply), FailureKind.MACHINE)
                case _:
                    raise _unexpected(reply)
            log.warning("attempt %d: %s while it loaded the model", attempt + 1, failure.message)
        words = f"{failure.message} while it loaded the model, {LOAD_ATTEMPTS} times"
        raise (BrokenWorkerError if failure.reason is FailureReason.ENGINE_HUNG else RunError)(failure.reason, words)

    def _check_model(self, loaded: str) -> None:
        """Another model under the same name (a moved branch, an overwritten folder) must not answer half the plan."""
        planned = self.coordinator.plan.extra.get("modelFingerprint", "")
        if planned and loaded and planned != loaded:
            raise RunError(
                FailureReason.PLAN_CHANGED,
                f"{self.engine.run.model.uri} is not the model any more that this run was planned for; "
                "pin a revision or a folder that does not change, and run the evaluation anew",
            )

    def _execute(self, work: Prepared) -> Prepared | None:
        """Score one unit, preparing the next one meanwhile; returns that one."""
        ended = self.coordinator.ended
        work = replace(work, requests=self._patiently(lambda: ended.wanted(work.requests)))
        if not work.requests:  # its evaluation has ended
            self._patiently(lambda: self.coordinator.commit(work.claim, [], 0.0, {}), may_finish=True)
            return None
        self._renew_engine(work.claim)
        self.engine.submit(Score(work.requests))
        following = self._prefetch()
        while not self._settle(work, self._answer(work)):
            self.engine.submit(Score(work.requests))
        return following

    def _answer(self, work: Prepared) -> Answers | Failed:
        """The engine's answers, or why there are none."""
        self.meter.state = "Scoring"
        reply = self._receive(self.watchdog.scoring(work.claim.unit.predicted_seconds), may_finish=True)
        match reply:
            case Answers() | Failed():
                return reply
            case Died():
                failure = failure_of_death(reply)
            case Hung():
                failure = Failed(FailureReason.ENGINE_HUNG, _hung_words(reply), FailureKind.MACHINE)
            case _:
                raise _unexpected(reply)
        return replace(
            failure, message=f"{failure.message} while it executed unit {work.claim.unit.index}", restart=True
        )

    def _settle(self, work: Prepared, answer: Answers | Failed) -> bool:
        """Commit answers or record a failure; False when the unit is to be scored again, in the new engine process."""
        if isinstance(answer, Answers):
            self._commit(work, answer)
            return True
        verdict = self._failed(work, answer)
        if verdict is Verdict.TRY_ELSEWHERE:
            self.health.failed(answer.kind, answer.reason, answer.message)
        elif verdict is not Verdict.TRY_HERE:
            self.health.progressed()
        if answer.restart or verdict is Verdict.TRY_HERE:
            self._load()
        return verdict is not Verdict.TRY_HERE

    def _renew_engine(self, claim: Claim) -> None:
        """A unit that failed in this engine process is tried in another: equal failures of one process prove little."""
        if self._failed_in.get(claim.unit.index) == self.engine.incarnation:
            self._load()

    def _prefetch(self) -> Prepared | None:
        """The next unit, if it may be claimed now; a stop meanwhile must not cost the unit in flight."""
        try:
            return self._prepare() if self._may_prefetch() else None
        except StoppedError:
            return None

    def _may_prefetch(self) -> bool:
        """Hold a second unit only while there is plenty for everybody."""
        coordinator = self.coordinator
        plenty = coordinator.units_left > 4 * max(1, coordinator.claimed_elsewhere + 1)
        return plenty and not self.stop.is_set()

    def _receive(self, limit_seconds: float, may_finish: bool) -> Reply:
        """Wait for the engine; after a stop only as long as the grace allows for the unit in flight.

        An engine that is silent for longer than the limit is ended. Only time in which this process runs counts: a
        machine that was suspended had its engine suspended too.
        """
        silent = 0.0
        while True:
            begun = time.monotonic()
            reply = self.engine.receive(POLL_SECONDS)
            if reply is not None:
                return reply
            if self.stop.is_set() and not (may_finish and self._is_in_grace()):
                raise StoppedError
            silent += min(time.monotonic() - begun, 2 * POLL_SECONDS)
            if silent > limit_seconds:
                self.engine.stop()
                return Hung(silent)

    def _is_in_grace(self) -> bool:
        """Whether time is left to bring the unit in flight home; the grace begins when the stop is first noticed."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        return time.monotonic() - self._stopped_at <= self.grace_seconds

    def _commit(self, work: Prepared, reply: Answers) -> None:
        metadata = {
            "device": self.meter.device,
            "engine": self.meter.engine,
            "modelLoadSeconds": f"{self.meter.model_load_seconds:.3f}",
            "modelFingerprint": self._fingerprint,
        }
        self.watchdog.measured(reply.seconds)
        commit = self.coordinator.commit
        first = self._patiently(lambda: commit(work.claim, reply.answers, reply.seconds, metadata), may_finish=True)
        self.health.progressed()
        self.meter.scored(work.claim.unit, reply.seconds, first)

    def _failed(self, work: Prepared, failure: Failed) -> Verdict:
        claim = work.claim
        log.warning("unit %d: %s (of the %s)", claim.unit.index, failure.message, failure.kind)
        self.meter.failures += 1
        incarnation = self.engine.incarnation
        if failure.kind is not FailureKind.MACHINE:  # another process on the same machine would tell nothing new
            self._failed_in[claim.unit.index] = incarnation

        def record() -> Verdict:
            concerned = self.coordinator.ended.concerned(work.requests)
            return self.coordinator.record_failure(claim, failure, incarnation, concerned)

        return self._patiently(record, may_finish=True)

    def _patiently(self, action: Callable[[], T], may_finish: bool = False) -> T:
        """Repeat a store action with growing pauses while the store does not answer.

        After a stop only what brings the unit in flight home is repeated, as long as the grace allows.
        """
        pause, begun = 0.2, time.monotonic()
        while True:
            try:
                return action()
            except StoreUnavailableError as error:
                if time.monotonic() - begun > self.coordinator.settings.store_patience_seconds:
                    raise
                log.warning("store: %s; trying again in %.1f s", error, pause)
                if self.stop.wait(pause):
                    if not (may_finish and self._is_in_grace()):
                        raise StoppedError from error
                    time.sleep(min(pause, 1.0))
                pause = min(10.0, 2 * pause)

    def _heartbeat(self) -> None:
        """Beat until the end, also during the grace after a stop, which may be longer than the lease."""
        while not self._ended.wait(self.coordinator.settings.heartbeat_seconds):
            try:
                self.coordinator.heartbeat()
            except (StoreUnavailableError, RunError) as error:
                log.warning("heartbeat: %s", error)

    def _release_all(self) -> None:
        for claim in list(self.coordinator.held.values()):
            try:
                self.coordinator.release(claim)
            except (StoreUnavailableError, RunError) as error:
                log.warning("claim of unit %d stays until its lease ends: %s", claim.unit.index, error)
                return  # the next would only cost time that a stopped process does not have


def _hung_words(hung: Hung) -> str:
    return f"the engine process did not answer for {hung.seconds:.0f} s and was ended"


def _unexpected(reply: object) -> RunError:
    return RunError(FailureReason.INTERNAL_ERROR, f"unexpected reply of the engine: {reply}")
