"""What is decided for all jobs of a policy. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from evalfleet.reconcile.decision import Action, Decision
from evalfleet.reconcile.job.world import Eta, FleetVerdict
from evalfleet.reconcile.policy.seen import PoolsSeen
from evalfleet_scaling.model import FleetDecision, FleetSnapshot

DecideFleet = Callable[[FleetSnapshot], FleetDecision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows for the policy's jobs.

    Attributes:
        actions: worker Jobs to delete and to create.
        verdicts: what each job is told, by uid.
        etas: when each job will be done, by uid, where it can be foreseen.
        decision: the decision itself; its memory belongs into the next world.
        seen: what the pools showed, for the next world.
    """

    actions: tuple[Action, ...]
    verdicts: Mapping[str, FleetVerdict]
    etas: Mapping[str, Eta]
    decision: FleetDecision
    seen: PoolsSeen


@dataclass(frozen=True, slots=True)
class PolicyDecision(Decision):
    """A decision and what the next passes need of it.

    Attributes:
        verdicts: what jobs are told, by uid.
        outcome: everything else decided; None where nothing could be.
    """

    verdicts: Mapping[str, FleetVerdict] = field(default_factory=dict)
    outcome: Outcome | None = None
