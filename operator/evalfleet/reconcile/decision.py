"""The protocol of reconciliation: a state is observed, a decision follows from it, the shell applies it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeVar

from evalfleet.reconcile.conditions import Condition


@dataclass(frozen=True, slots=True)
class Create:
    """Create an object if it is absent."""

    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object if it is present, its pods with it."""

    kind: str
    namespace: str
    name: str
    uid: str | None = None


Action = Create | Delete


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a state.

    Attributes:
        conditions: conditions that hold now.
        status: status members to write; None removes one.
        actions: what must happen in the cluster.
        requeue_seconds: look again after this long, event or not; None = only after an event.
    """

    conditions: tuple[Condition, ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    requeue_seconds: float | None = None


class Observed(Protocol):
    """What every state tells of the object that it is the state of, as it was read."""

    @property
    def now(self) -> datetime:
        """Server-adjusted time."""

    @property
    def generation(self) -> int:
        """metadata.generation."""

    @property
    def version(self) -> str:
        """metadata.resourceVersion: a status is written at the version that was decided on."""

    @property
    def status(self) -> Mapping[str, Any]:
        """The status."""


KeyT = TypeVar("KeyT", contravariant=True)
StateT = TypeVar("StateT")
DecisionT = TypeVar("DecisionT", bound=Decision)


class Reconciler(Protocol[KeyT, StateT, DecisionT]):
    """How the objects of one kind are reconciled."""

    async def observe(self, key: KeyT) -> StateT | None:
        """The state of an object, read from cache, memory and books without writing to any; None when it is gone."""

    def decide(self, state: StateT) -> DecisionT:
        """What follows: a pure function."""

    async def apply(self, key: KeyT, state: StateT, decision: DecisionT) -> None:
        """Carry it out: actions, memory, status, the next look."""

    def forget(self, key: KeyT) -> None:
        """The object is gone."""
