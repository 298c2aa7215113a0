"""The claim protocol of one worker: every decision about who executes which unit, over a store and a clock.

No threads, no sleeping, no signals: the worker loop and the simulation drive the same object, step by step.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evalfleet_worker.loop.choose import claim_order, first_free
from evalfleet_worker.loop.settings import ClaimSettings
from evalfleet_worker.protocol import FailureReason
from evalfleet_worker.requests import Answer, Unit, same_answer
from evalfleet_worker.store.layout import SEGMENT_UNITS
from evalfleet_worker.store.run_store import FailureRecord, Plan, RunStore, segments
from evalfleet_worker.store.segment import ClaimSeen
from evalfleet_worker.tables import write_answers

BACKUP_EPOCH = -1


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


@dataclass(slots=True)
class _Seen:
    """A claim of somebody else as this observer knows it."""

    stamp: str
    since: float


@dataclass
class Coordinator:
    """One worker's side of the claim protocol.

    Attributes:
        store: the run.
        plan: its plan.
        owner: this process.
        clock: monotonic seconds.
        settings: durations.
        tolerance: allowed difference between two executions (0 = bitwise).
    """

    store: RunStore
    plan: Plan
    owner: Owner
    clock: Callable[[], float]
    settings: ClaimSettings = field(default_factory=ClaimSettings)
    tolerance: float = 1e-3
    done: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    held: dict[int, Claim] = field(default_factory=dict)
    collisions: int = 0
    _claims: dict[int, ClaimSeen] = field(default_factory=dict)
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _started: dict[int, _Seen] = field(default_factory=dict)
    _backups: set[int] = field(default_factory=set)
    _order: list[int] = field(default_factory=list)
    _own_failures: set[int] = field(default_factory=set)
    _full: set[int] = field(default_factory=set)
    _listed: bool = False
    _neighbour: int = -1
    _hops: int = 0
    _listed_at: float = 0.0
    _active: float = 0.0
    _beat: int = 0
    _unit_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._order = claim_order(self.plan.units, self.owner.nonce)

    @property
    def finished(self) -> set[int]:
        """Units that need no execution any more."""
        return self.done | self.failed

    @property
    def claimed_elsewhere(self) -> int:
        """Units that others are believed to execute now."""
        return sum(
            not seen.freed and index not in self.held and index not in self.finished
            for index, seen in self._claims.items()
        )

    def next(self) -> Claim | Wait | Done:
        """Claim a unit, or say why not: first what is free, then what is lost, then stragglers."""
        if not self._listed:
            self.refresh()
            self._hop()
        claim = self._claim_free()
        if claim is not None:
            return claim
        self.refresh()
        if len(self.finished) >= len(self.plan.units):
            return Done()
        claim = self._claim_free() or self._take_over() or self._claim_backup()
        return claim or Wait(self.settings.poll_seconds)

    def refresh(self) -> None:
        """List every segment that is not complete; count the time in which the store answered."""
        for segment in segments(self.plan):
            if segment in self._full:
                continue
            listing = self.store.list_segment(segment)
            self.done |= listing.done
            self.failed = (self.failed | listing.failed) - self.done
            self._backups |= listing.backups
            self._claims.update(listing.claims)
            first = segment * SEGMENT_UNITS
            units = range(first, min(first + SEGMENT_UNITS, len(self.plan.units)))
            if self.finished.issuperset(units):
                self._full.add(segment)
        self._count_active_time()
        self._observe_claims()

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
        if not first:
            self._compare(claim, answers, seconds)
        self.done.add(claim.unit.index)
        self.failed.discard(claim.unit.index)
        self.held.pop(claim.unit.index, None)
        self._unit_seconds = seconds if not self._unit_seconds else 0.8 * self._unit_seconds + 0.2 * seconds
        return first

    def release(self, claim: Claim) -> None:
        """Give a claim up in good order: it is no loss."""
        self.held.pop(claim.unit.index, None)
        if claim.epoch >= 0:
            self.store.objects.create(self.store.layout.freed(claim.unit.index, claim.epoch), b"")

    def record_failure(self, claim: Claim, reason: FailureReason, message: str, incarnation: int) -> None:
        """Record that an execution of the unit failed here; distinct engine incarnations are distinct owners."""
        owner = f"{self.owner.nonce}-{incarnation}"
        record = FailureRecord(claim.unit.index, owner, self.owner.worker, str(reason), message)
        self.store.record_failure(record)
        self._own_failures.add(claim.unit.index)
        records = self.store.failures(claim.unit.index)
        if len({known.owner for known in records}) >= self.settings.distinct_failures:
            self.store.give_up(record)
            self.failed.add(claim.unit.index)
        self.release(claim)

    def _claim_free(self) -> Claim | None:
        """Claim a unit that nobody holds; where others are met, look again and go elsewhere before the next try."""
        for attempt in range(8):
            index = self._first_free()
            if attempt > 0 or (index is not None and index not in (self._order[0], self._neighbour)):
                self.refresh()
                self._hop()
                index = self._first_free()
            if index is None:
                return None
            seen = self._claims.get(index)
            if self._is_lost_for_good(index, seen):
                continue
            claim = self._try(index, 0 if seen is None else seen.epoch + 1)
            if claim is not None:
                self._neighbour = index + 1
                return claim
            self.collisions += 1
        return None

    def _first_free(self) -> int | None:
        """The next free unit of the order; units that failed here come last."""
        index = first_free(self._order, self._taken() | self._own_failures)
        return first_free(self._order, self._taken()) if index is None else index

    def _hop(self) -> None:
        """Start anew inside a free run, each time at another place."""
        self._hops += 1
        self._order = claim_order(self.plan.units, f"{self.owner.nonce}/{self._hops}", self._taken())

    def _taken(self) -> set[int]:
        claimed = {index for index, seen in self._claims.items() if not seen.freed}
        return self.finished | claimed | self.held.keys()

    def _take_over(self) -> Claim | None:
        """Take over a claim that has not changed for the whole lease on this observer's active time."""
        for index, seen in self._seen.items():
            known = self._claims.get(index)
            if known is None or known.freed or index in self.finished or index in self.held:
                continue
            if self._active - seen.since < self.settings.lease_seconds:
                continue
            if self._is_lost_for_good(index, known, lost_now=True):
                continue
            claim = self._try(index, known.epoch + 1)
            if claim is not None:
                return claim
        return None

    def _claim_backup(self) -> Claim | None:
        """Re-execute the slowest claimed unit instead of waiting for it: one backup task per unit."""
        patience = max(self.settings.backup_seconds, 2 * self._unit_seconds)
        stragglers = [
            (seen.since, index)
            for index, seen in self._started.items()
            if self._active - seen.since >= patience and index not in self._backups | self.finished | self.held.keys()
        ]
        for _, index in sorted(stragglers):
            self._backups.add(index)
            if self.store.objects.create(self.store.layout.backup(index), self._content()):
                claim = Claim(self.plan.units[index], BACKUP_EPOCH, self.clock())
                self.held[index] = claim
                return claim
        return None

    def _try(self, index: int, epoch: int) -> Claim | None:
        created = self.store.objects.create(self.store.layout.claim(index, epoch), self._content())
        if not created and not self._is_mine(index, epoch):
            return None
        claim = Claim(self.plan.units[index], epoch, self.clock())
        self.held[index] = claim
        return claim

    def _is_mine(self, index: int, epoch: int) -> bool:
        """After a lost response the claim may be this owner's own."""
        content = self.store.objects.get(self.store.layout.claim(index, epoch))
        return content is not None and json.loads(content).get("owner") == self.owner.nonce

    def _is_lost_for_good(self, index: int, seen: ClaimSeen | None, lost_now: bool = False) -> bool:
        """After many silent losses and two more executions the unit is given up."""
        losses = 0 if seen is None else seen.losses + lost_now
        if losses < self.settings.silent_losses + 2:
            return False
        message = f"the worker was lost {losses} times while it executed this unit, without a word"
        self.store.give_up(
            FailureRecord(index, self.owner.nonce, self.owner.worker, str(FailureReason.ENGINE_CRASHED), message)
        )
        self.failed.add(index)
        return True

    def _compare(self, claim: Claim, answers: Sequence[Answer], seconds: float) -> None:
        committed = self.store.read_answers(self.plan, claim.unit)
        if committed is None:
            return
        missing = abs(len(answers) - len(committed[0]))
        pairs = zip(answers, committed[0], strict=False)
        mismatched = missing + sum(not same_answer(mine, theirs, self.tolerance) for mine, theirs in pairs)
        facts = {"requests": len(answers), "mismatched": mismatched, "seconds": round(seconds, 6)}
        self.store.record_comparison(claim.unit, self.owner.nonce, facts)

    def _content(self) -> bytes:
        return json.dumps({"owner": self.owner.nonce, "worker": self.owner.worker, "beat": self._beat}).encode()

    def _count_active_time(self) -> None:
        """Only time in which this observer's own store calls succeed counts towards a lease."""
        now = self.clock()
        if self._listed:
            self._active += min(max(0.0, now - self._listed_at), 2.5 * self.settings.poll_seconds)
        self._listed, self._listed_at = True, now

    def _observe_claims(self) -> None:
        for index, claim in self._claims.items():
            if index in self.finished or index in self.held or claim.freed:
                self._seen.pop(index, None)
                continue
            stamp = f"{claim.epoch}|{claim.stamp}"
            known = self._seen.get(index)
            if known is None or known.stamp != stamp:
                self._seen[index] = _Seen(stamp, self._active)
            started = self._started.get(index)
            if started is None or started.stamp != str(claim.epoch):
                self._started[index] = _Seen(str(claim.epoch), self._active)


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
