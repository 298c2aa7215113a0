"""Everything that a decision for all jobs of one policy looks at, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalfleet.api.scalingpolicy import NodePool, ScalingPolicy
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.pools import node_pools
from evalfleet.reconcile.policy.setbacks import Setbacks
from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.spend import SpendLedger


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All jobs of one policy.

    Attributes:
        now: server-adjusted time.
        policy: the policy, None = built-in defaults.
        jobs: states of its EvaluationJobs by uid, every one that is accepted and not deleted.
        memory: what the last decision passed on.
        pool_histories, setbacks: what the pools and the workers showed up to the last pass.
        ledger: what was spent, up to now.
        paid_before: runs whose workers were paid for at the last pass.
        clocks_ahead: uids of pods that ended in the future by their nodes' clocks, and are not settled yet.
        ledger_problem, policy_problem: why one cannot be read; empty when it can.
        uid, generation, version: of the policy object; empty and 0 when there is none.
        status: its status as read.
    """

    now: datetime
    policy: ScalingPolicy | None
    jobs: Mapping[str, JobState]
    memory: FleetMemory = field(default_factory=FleetMemory)
    pool_histories: PoolHistories = field(default_factory=PoolHistories)
    setbacks: Setbacks = field(default_factory=Setbacks)
    ledger: SpendLedger = field(default_factory=SpendLedger)
    paid_before: frozenset[str] = frozenset()
    clocks_ahead: tuple[str, ...] = ()
    ledger_problem: str = ""
    policy_problem: str = ""
    uid: str = ""
    generation: int = 0
    version: str = ""
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pools(self) -> tuple[NodePool, ...]:
        """The policy's pools."""
        return node_pools(self.policy)

    @property
    def trouble(self) -> tuple[str, str] | None:
        """Reason and sentence why nothing can be decided, None when something can."""
        if self.policy_problem:
            return "InvalidSpec", f"the policy cannot be read: {self.policy_problem}"
        if self.ledger_problem:  # deciding without it could spend what a limit forbids
            return "LedgerUnreadable", f"what was spent cannot be read: {self.ledger_problem}"
        return None
