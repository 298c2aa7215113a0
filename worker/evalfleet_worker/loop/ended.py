"""Evaluations that ended before all their units were scored, and which requests are still wanted then."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from evalfleet_worker.plan.identities import IDENTITIES, Identities, read_identities
from evalfleet_worker.requests import Request
from evalfleet_worker.store.plan_file import Plan
from evalfleet_worker.store.run_store import RunStore


@dataclass
class EndedEvaluations:
    """What one worker knows of them.

    Attributes:
        store: the run.
        plan: its plan.
        names: evaluations that nobody scores any more.
    """

    store: RunStore
    plan: Plan
    names: frozenset[str] = frozenset()
    _needed: dict[frozenset[str], frozenset[int]] = field(default_factory=dict)
    _identities: Identities | None = None

    def learn(self) -> None:
        """Look into the store."""
        self.names = frozenset(self.store.ended_evaluations())

    def wanted(self, requests: Sequence[Request]) -> list[Request]:
        """The requests that an evaluation still needs: those of an ended one only where another shares them."""
        if not any(request.evaluation in self.names for request in requests):
            return list(requests)
        needed = self._rows_needed()
        return [request for request in requests if request.evaluation not in self.names or request.row in needed]

    def concerned(self, requests: Sequence[Request]) -> str:
        """The evaluation that a failure of these requests, all of one, concerns: one that still needs them."""
        own, rows = requests[0].evaluation, {request.row for request in requests}
        if own not in self.names:
            return own
        identities = self._known()
        sharing = (name for name in identities.rows if name not in self.names and identities.rows_of(name) & rows)
        return next(sharing, own)

    def _rows_needed(self) -> frozenset[int]:
        """Rows that evaluations need which have not ended."""
        if self.names not in self._needed:
            identities = self._known()
            live = (identities.rows_of(name) for name in identities.rows if name not in self.names)
            self._needed = {self.names: frozenset().union(*live)}
        return self._needed[self.names]

    def _known(self) -> Identities:
        """Read when the first evaluation ends: most runs never need them here."""
        if self._identities is None:
            has_any = IDENTITIES in self.plan.documents
            content = self.store.read_document(self.plan, IDENTITIES) if has_any else None
            self._identities = Identities({}) if content is None else read_identities(content)
        return self._identities
