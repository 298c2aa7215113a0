"""What is decided for all jobs of a policy. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evalfleet.reconcile.decision import Action, Decision
from evalfleet.reconcile.job.state import Admission, Eta
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.setbacks import Setbacks
from evalfleet_scaling.model import FleetDecision, FleetSnapshot

DecideFleet = Callable[[FleetSnapshot], FleetDecision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows for the policy's jobs.

    Attributes:
        actions: worker Jobs to delete and to create.
        admissions: admitted or not and why, by uid.
        etas: when each job will be done, by uid, where it can be foreseen.
        decision: the decision itself; its memory belongs into the next state.
        pool_histories, setbacks: what the pools and the workers showed, for the next state.
        refused: reason and message of a worker that the API server did not take; None when it took all.
    """

    actions: tuple[Action, ...]
    admissions: Mapping[str, Admission]
    etas: Mapping[str, Eta]
    decision: FleetDecision
    pool_histories: PoolHistories
    setbacks: Setbacks
    refused: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class PolicyDecision(Decision):
    """A decision and what the next passes need of it.

    Attributes:
        admissions: of the jobs it concerns, by uid.
        outcome: everything else decided; None where nothing could be.
    """

    admissions: Mapping[str, Admission] = field(default_factory=dict)
    outcome: Outcome | None = None
