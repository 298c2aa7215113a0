"""What one worker knows about the run: from listings of single segments, on its own clock.

Knowledge may be old; it only decides what to try. What was not listed for a while and is unchanged when it is listed
again was unchanged all the time, because every write changes an object's stamp.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from evalfleet_worker.loop.settings import ClaimSettings
from evalfleet_worker.store.run_store import Plan, RunStore, segment_units, segments
from evalfleet_worker.store.segment import ClaimSeen, Listing


@dataclass(slots=True)
class _Since:
    """Something that has not changed since `active` seconds of this observer's time."""

    stamp: str
    active: float


@dataclass
class RunView:
    """Units by state as far as this worker has seen them.

    Attributes:
        store: the run.
        plan: its plan.
        clock: monotonic seconds.
        settings: durations.
        done: committed units.
        failed: units that failed for good.
        claims: newest claim of every unit that was seen claimed.
        backups: units with a backup task.
        suspects: units with which workers were lost so often that they are executed alone.
        taken: per unit, 1 when it is finished or claimed by anybody.
        over: the run is finished and its claims and units are swept away.
    """

    store: RunStore
    plan: Plan
    clock: Callable[[], float]
    settings: ClaimSettings
    done: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    claims: dict[int, ClaimSeen] = field(default_factory=dict)
    backups: set[int] = field(default_factory=set)
    suspects: set[int] = field(default_factory=set)
    over: bool = False
    _seen: dict[int, _Since] = field(default_factory=dict)
    _started: dict[int, _Since] = field(default_factory=dict)
    _listed_at: dict[int, float] = field(default_factory=dict)
    _full: set[int] = field(default_factory=set)
    _last_listing: float | None = None
    _active: float = 0.0

    def __post_init__(self) -> None:
        self.taken = bytearray(len(self.plan.units))

    @property
    def finished(self) -> int:
        """How many units need no execution any more."""
        return len(self.done) + len(self.failed)

    def is_finished(self, index: int) -> bool:
        """Whether a unit needs no execution any more."""
        return index in self.done or index in self.failed

    def mark_done(self, index: int) -> None:
        """A unit that this worker knows to be committed."""
        self.done.add(index)
        self.failed.discard(index)
        self.taken[index] = True

    def mark_failed(self, index: int) -> None:
        """A unit that this worker knows to have failed for good."""
        if index not in self.done:
            self.failed.add(index)
        self.taken[index] = True

    def losses(self, index: int) -> int:
        """Executions of the unit that ended without a word."""
        known = self.claims.get(index)
        return 0 if known is None else known.losses

    def unchanged_for(self, seconds: float) -> list[int]:
        """Unfinished units of others whose claim was seen unchanged for that much of this worker's active time."""
        return [
            index
            for index, since in self._seen.items()
            if self._active - since.active >= seconds and not self.is_finished(index)
        ]

    def claimed_for(self) -> dict[int, float]:
        """Seconds for which each unfinished claimed unit is known to be with its present owner."""
        return {
            index: self._active - since.active
            for index, since in self._started.items()
            if index in self._seen and not self.is_finished(index)
        }

    def list_all(self, held: frozenset[int] = frozenset()) -> None:
        """List every segment that is not complete."""
        for segment in segments(self.plan):
            if segment not in self._full:
                self.list_segment(segment, held)

    def list_oldest(self, held: frozenset[int]) -> None:
        """List the incomplete segment that was listed longest ago, so that progress elsewhere becomes known."""
        left = [segment for segment in segments(self.plan) if segment not in self._full]
        if left:
            self.list_segment(min(left, key=lambda segment: self._listed_at.get(segment, -1.0)), held)

    @property
    def is_new(self) -> bool:
        """Whether nothing was listed yet."""
        return self._last_listing is None

    @property
    def is_stale(self) -> bool:
        """Whether nothing was listed for a while."""
        return self._last_listing is None or self.clock() - self._last_listing >= self.settings.glance_seconds

    def list_segment(self, segment: int, held: frozenset[int]) -> None:
        """Learn the state of one segment's units; `held` are this worker's own."""
        listing = self.store.list_segment(segment)
        self._count_active_time()
        self._listed_at[segment] = self.clock()
        units = segment_units(self.plan, segment)
        if self._forgotten(listing, units) and self.store.read_summary() is not None:
            self.over = True
            return
        for index in units:
            self._learn(index, listing, index in held)
        if all(self.is_finished(index) for index in units):
            self._full.add(segment)

    def _forgotten(self, listing: Listing, units: range) -> bool:
        """Whether something that was there is gone: the run was swept, or a damaged part was put aside."""
        known = {index for index in units if index in self.done}
        claimed = {index for index in units if index in self.claims}
        return not (known <= listing.done and claimed <= listing.claims.keys())

    def _learn(self, index: int, listing: Listing, held: bool) -> None:
        self._learn_end(index, listing)
        claim = listing.claims.get(index)
        if index in listing.backups:
            self.backups.add(index)
        if claim is not None:
            self.claims[index] = claim
            if claim.losses >= self.settings.silent_losses:
                self.suspects.add(index)
        finished = self.is_finished(index)
        self.taken[index] = held or finished or (claim is not None and not claim.freed)
        if claim is None or claim.freed or held or finished:
            self._seen.pop(index, None)
            return
        self._since(self._seen, index, f"{claim.epoch}|{claim.stamp}")
        self._since(self._started, index, str(claim.epoch))

    def _learn_end(self, index: int, listing: Listing) -> None:
        if index in listing.done:
            self.done.add(index)
            self.failed.discard(index)
        else:
            self.done.discard(index)  # its part was damaged and put aside: it is executed again
            if index in listing.failed:
                self.failed.add(index)

    def _since(self, known: dict[int, _Since], index: int, stamp: str) -> None:
        before = known.get(index)
        if before is None or before.stamp != stamp:
            known[index] = _Since(stamp, self._active)

    def _count_active_time(self) -> None:
        """Only time in which this observer's own store calls succeed counts towards a lease."""
        now = self.clock()
        if self._last_listing is not None:
            self._active += min(max(0.0, now - self._last_listing), 2.5 * self.settings.poll_seconds)
        self._last_listing = now
