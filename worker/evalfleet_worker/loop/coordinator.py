"""The claim protocol of one worker: every decision about who executes which unit, over a store and a clock.

No threads, no sleeping, no signals: the worker loop and the simulation drive the same object, step by step.
"""

import json
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evalfleet_worker.loop.choose import claim_order, size_classes
from evalfleet_worker.loop.ended import EndedEvaluations
from evalfleet_worker.loop.messages import Failed
from evalfleet_worker.loop.settings import ClaimSettings
from evalfleet_worker.loop.verdict import Verdict, is_of_the_model, verdict
from evalfleet_worker.loop.view import RunView
from evalfleet_worker.protocol import FailureReason, Numerics
from evalfleet_worker.requests import Answer, Unit
from evalfleet_worker.store.layout import SEGMENT_UNITS
from evalfleet_worker.store.run_store import FailureRecord, Plan, RunStore, segment_units, segments
from evalfleet_worker.store.segment import ClaimSeen
from evalfleet_worker.tables import write_answers
from evalfleet_worker.tolerance import Agreement

BACKUP_EPOCH = -1
MAX_TRIES = 8
"""Claims that a worker tries in a row before it looks at the whole run again."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who executes: `nonce` is unique to the process, `worker` is its name for people."""

    nonce: str
    worker: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right, for a while, to execute a unit; epoch -1 is a backup task, `since` the owner's clock."""

    unit: Unit
    epoch: int
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to claim now, but others are still at work."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left in this run."""


@dataclass
class Coordinator:
    """One worker's side of the claim protocol.

    Attributes:
        store: the run.
        plan: its plan.
        owner: this process.
        clock: monotonic seconds.
        settings: durations.
        held: claims of this worker, by unit.
        committed: units whose committed part is this worker's.
        collisions: claims for which another worker was faster.
    """

    store: RunStore
    plan: Plan
    owner: Owner
    clock: Callable[[], float]
    settings: ClaimSettings = field(default_factory=ClaimSettings)
    held: dict[int, Claim] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    collisions: int = 0
    _own_failures: set[int] = field(default_factory=set)
    _order: deque[int] = field(default_factory=deque)
    _neighbour: int = -1
    _hops: int = 0
    _beat: int = 0
    _unit_seconds: float = 0.0
    _unanswered: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.view = RunView(self.store, self.plan, self.clock, self.settings)
        self.ended = EndedEvaluations(self.store, self.plan)
        self._classes = size_classes(self.plan.units)
        self._agreement = Agreement(self.plan.numerics or Numerics(dtype="Float32"))

    @property
    def done(self) -> set[int]:
        """Units known to be committed."""
        return self.view.done

    @property
    def failed(self) -> set[int]:
        """Units known to have failed for good."""
        return self.view.failed

    @property
    def units_left(self) -> int:
        """Units that are not known to be finished."""
        return len(self.plan.units) - self.view.finished

    @property
    def claimed_elsewhere(self) -> int:
        """Units that others are believed to execute now."""
        return self.view.taken.count(1) - self.view.finished - len(self.held)

    def next(self) -> Claim | Wait | Done:
        """Claim a unit, or say why not: first what is free, then what is lost, then stragglers."""
        if not self.view.suspects.isdisjoint(self.held):
            return Wait(self.settings.poll_seconds)  # a suspect is executed alone: a loss is its own then
        self._look()
        claim = self._claim_again() or self._claim_free()
        if claim is not None:
            return claim
        self.refresh()
        if self.view.over or self.units_left == 0:
            return Done()
        claim = self._claim_free() or self._take_over() or self._claim_backup()
        return claim or Wait(self.settings.poll_seconds)

    def refresh(self) -> None:
        """Learn the state of every unit that may have changed, and start anew."""
        self.ended.learn()
        self.view.list_all(frozenset(self.held))
        self._start_anew()

    def _look(self) -> None:
        """The whole run at first, then a segment now and then: progress elsewhere is known also while all is free."""
        if self.view.is_new:
            self.refresh()
        elif self.view.is_stale:
            self.view.list_oldest(frozenset(self.held))

    def heartbeat(self) -> None:
        """Rewrite the claims this owner holds, so that observers see them change.

        A claim younger than one interval is left alone: it is unchanged for less than two intervals at the next beat,
        which the lease of three allows, and units of a few seconds then cost no heartbeat at all.
        """
        self._beat += 1
        for claim in list(self.held.values()):
            if claim.epoch >= 0 and self.clock() - claim.since >= self.settings.heartbeat_seconds:
                self.store.objects.put(self.store.layout.claim(claim.unit.index, claim.epoch), self._content())

    def commit(self, claim: Claim, answers: Sequence[Answer], seconds: float, metadata: dict[str, str]) -> bool:
        """Commit a unit's answers; False when another execution was faster: then both are compared."""
        content = write_answers(
            answers, {**metadata, "owner": self.owner.nonce, "worker": self.owner.worker, "seconds": f"{seconds:.6f}"}
        )
        first = self.store.commit(claim.unit, self.owner.nonce, content)
        if first:
            self.committed.add(claim.unit.index)
        else:
            self._compare(claim, answers, seconds)
        self.view.mark_done(claim.unit.index)
        self.held.pop(claim.unit.index, None)
        self._unit_seconds = seconds if not self._unit_seconds else 0.8 * self._unit_seconds + 0.2 * seconds
        return first

    def release(self, claim: Claim) -> None:
        """Give a claim up in good order: it is no loss."""
        self.held.pop(claim.unit.index, None)
        if not self.view.is_finished(claim.unit.index):
            self.view.taken[claim.unit.index] = False
        if claim.epoch >= 0:
            self.store.objects.create(self.store.layout.freed(claim.unit.index, claim.epoch), b"")

    def record_failure(self, claim: Claim, failure: Failed, incarnation: int, evaluation: str = "") -> Verdict:
        """Record that an execution of the unit failed here, and draw the consequence.

        The claim is given up unless the verdict is to try here again.

        Args:
            claim: of the unit.
            failure: what happened, and whose it is.
            incarnation: number of the engine process.
            evaluation: that the failed requests belong to.
        """
        owner, index = f"{self.owner.nonce}-{incarnation}", claim.unit.index
        reason, message = str(failure.reason), failure.message
        record = FailureRecord(
            index, owner, self.owner.worker, reason, message, str(failure.kind), evaluation, failure.fatal
        )
        self.store.record_failure(record)
        self._own_failures.add(index)
        found = verdict(record, self.store.failures(index), self.settings.distinct_failures)
        if failure.reason is FailureReason.NOT_FINITE and is_of_the_model(evaluation, self.store.all_failures()):
            found = Verdict.END_EVALUATION
        if found is Verdict.GIVE_UP_UNIT:
            self.store.give_up(record)
            self.view.mark_failed(index)
        elif found is Verdict.END_EVALUATION:
            self.store.end_evaluation(record)
            self._own_failures.discard(index)  # what is left of the unit is to be done at once
        self.ended.learn()
        if found is Verdict.TRY_HERE and evaluation in self.ended.names:  # another worker was faster
            found = Verdict.END_EVALUATION
        if found is not Verdict.TRY_HERE:
            self.release(claim)
        return found

    def _claim_free(self) -> Claim | None:
        """Claim a unit that nobody holds; where others are met, look again and go elsewhere before the next try."""
        for attempt in range(MAX_TRIES):
            index = self._next_in_order()
            if index is None or attempt > 0 or index != self._neighbour:
                index = self._hop()
            if index is None:
                return None
            if self._is_lost_for_good(index, self.view.losses(index)):
                continue
            claim = self._try(index)
            if claim is not None:
                self._neighbour = index + 1
                return claim
            self.view.taken[index] = True
            self.collisions += 1
        return None

    def _next_in_order(self) -> int | None:
        """The next unit of the order that is not known to be taken."""
        while self._order and self.view.taken[self._order[0]]:
            self._order.popleft()
        return self._order[0] if self._order else None

    def _hop(self) -> int | None:
        """A unit inside a free run elsewhere, in a segment that was listed just now."""
        listed: set[int] = set()
        segment: int | None = None
        while not self.view.over:
            self._start_anew(segment)
            index = self._next_in_order()
            if index is None or index // SEGMENT_UNITS in listed:
                return index
            segment = index // SEGMENT_UNITS
            listed.add(segment)
            self.view.list_segment(segment, frozenset(self.held))
        return None

    def _start_anew(self, segment: int | None = None) -> None:
        """An order with another start, in `segment` if one is given; units that failed before come last."""
        self._hops += 1
        within = None if segment is None else segment_units(self.plan, segment)
        order = claim_order(self._classes, f"{self.owner.nonce}/{self._hops}", self.view.taken, within)
        late = self._own_failures | self.view.suspects
        last = () if self.held else (index for index in order if index in late)
        self._order = deque((*(index for index in order if index not in late), *last))

    def _take_over(self) -> Claim | None:
        """Take over a claim that has not changed for the whole lease on this observer's active time."""
        for index in self.view.unchanged_for(self.settings.lease_seconds):
            if self._is_lost_for_good(index, self.view.losses(index) + 1):
                continue
            if self.held and index in self.view.suspects:
                continue
            claim = self._try(index)
            if claim is not None:
                return claim
        return None

    def _claim_backup(self) -> Claim | None:
        """Re-execute the slowest claimed unit instead of waiting for it: one backup task per unit."""
        patience = max(self.settings.backup_seconds, 2 * self._unit_seconds)
        known = self.view.claimed_for()
        never = self.view.backups | self.view.suspects
        stragglers = [index for index in known if known[index] >= patience and index not in never]
        for index in sorted(stragglers, key=lambda index: -known[index]):
            self.view.backups.add(index)
            if self.store.objects.create(self.store.layout.backup(index), self._content()):
                return self._hold(Claim(self.plan.units[index], BACKUP_EPOCH, self.clock()))
        return None

    def _try(self, index: int) -> Claim | None:
        """Create the next epoch of a unit's claim."""
        seen = self.view.claims.get(index)
        return self._claim(index, 0 if seen is None else seen.epoch + 1)

    def _claim_again(self) -> Claim | None:
        """The claim whose response was lost, if it took effect or still can."""
        return None if self._unanswered is None else self._claim(*self._unanswered)

    def _claim(self, index: int, epoch: int) -> Claim | None:
        self._unanswered = (index, epoch)
        created = self.store.objects.create(self.store.layout.claim(index, epoch), self._content())
        mine = created or self._is_mine(index, epoch)
        self._unanswered = None
        if not mine:
            return None
        self.view.claims[index] = ClaimSeen(epoch, "", freed=False, losses=self.view.losses(index))
        return self._hold(Claim(self.plan.units[index], epoch, self.clock()))

    def _hold(self, claim: Claim) -> Claim:
        self.held[claim.unit.index] = claim
        self.view.taken[claim.unit.index] = True
        return claim

    def _is_mine(self, index: int, epoch: int) -> bool:
        """After a lost response the claim may be this owner's own."""
        content = self.store.objects.get(self.store.layout.claim(index, epoch))
        return content is not None and json.loads(content).get("owner") == self.owner.nonce

    def _is_lost_for_good(self, index: int, losses: int) -> bool:
        """After many silent losses and two more executions, alone, the unit is given up."""
        if losses < self.settings.silent_losses + 2:
            return False
        message = f"the worker was lost {losses} times while it executed this unit, without a word"
        self.store.give_up(
            FailureRecord(index, self.owner.nonce, self.owner.worker, str(FailureReason.ENGINE_CRASHED), message)
        )
        self.view.mark_failed(index)
        return True

    def _compare(self, claim: Claim, answers: Sequence[Answer], seconds: float) -> None:
        committed = self.store.read_answers(self.plan, claim.unit)
        if committed is None:
            return
        theirs = {answer.row: answer for answer in committed[0]}
        requests = {request.row: request for request in self.store.read_unit(self.plan, claim.unit)}
        both = [mine for mine in answers if mine.row in theirs]  # rows of an ended evaluation may be gone
        mismatched = sum(not self._agreement.holds(requests[mine.row], mine, theirs[mine.row]) for mine in both)
        facts = {"requests": len(answers), "mismatched": mismatched, "seconds": round(seconds, 6)}
        self.store.record_comparison(claim.unit, self.owner.nonce, facts)

    def _content(self) -> bytes:
        return json.dumps({"owner": self.owner.nonce, "worker": self.owner.worker, "beat": self._beat}).encode()


def release_worker(store: RunStore, plan: Plan, worker: str | None) -> int:
    """Give up the claims of a worker that is known to be dead (all workers when None); returns how many."""
    released = 0
    for segment in segments(plan):
        listing = store.list_segment(segment)
        for index, seen in listing.claims.items():
            if seen.freed or index in listing.done:
                continue
            content = store.objects.get(store.layout.claim(index, seen.epoch))
            if content is None or (worker is not None and json.loads(content).get("worker") != worker):
                continue
            released += store.objects.create(store.layout.freed(index, seen.epoch), b"")
    return released
