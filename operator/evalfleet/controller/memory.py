"""What the operator remembers between passes: written where facts arrive and decisions are applied; all can be lost."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalfleet.controller.nodes import LostNodes, without_machine
from evalfleet.controller.objects import is_worker, owner_of, run_of, uid_of
from evalfleet.kube.resources import Key
from evalfleet.reconcile.job.state import Admission, Eta, Money
from evalfleet.reconcile.liveness import is_disrupted
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.setbacks import Setbacks
from evalfleet_scaling.memory import FleetMemory
from evalfleet_worker.protocol import Progress


@dataclass(slots=True)
class RunMemory:
    """One EvaluationJob that has not ended, or whose children are not gone yet.

    Attributes:
        admission: what the Fleet decided about it, and why.
        eta: when it will be done.
        generations: highest generation of a worker created, by slot.
        worker_jobs: uids of worker Jobs that came, also of those that are gone.
        preempted: worker pods taken away, each with the uid of its Job.
        attempts: number of the newest plan and finish Job, and when it was created, by role.
    """

    admission: Admission | None = None
    eta: Eta | None = None
    generations: dict[int, int] = field(default_factory=dict)
    worker_jobs: set[str] = field(default_factory=set)
    preempted: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    def count(self, pods: Container[str]) -> None:
        """Pods are gone and counted in the status, which remembers them from now on."""
        self.preempted = {pod: job for pod, job in self.preempted.items() if pod not in pods}


@dataclass(frozen=True, slots=True)
class PolicyMemory:
    """What the last decision of a policy passed on, and what its pools and workers showed."""

    decision: FleetMemory = field(default_factory=FleetMemory)
    pool_histories: PoolHistories = field(default_factory=PoolHistories)
    setbacks: Setbacks = field(default_factory=Setbacks)


@dataclass
class Memory:
    """Everything remembered.

    Attributes:
        runs: by uid of the EvaluationJob; forgotten when it has ended and left nothing.
        policies: by key of the ScalingPolicy.
        money: what runs cost, as their ledgers tell; an ended run's stays, for its ledger keeps it too.
        progress: newest progress by uid of the pod.
        answered: when it was told, by uid of the pod.
        heard: when that progress was another one than before, by uid of the pod.
        refusals: why the Job controller creates no pod, by uid of the Job.
        lost_nodes: nodes that have vanished.
    """

    runs: dict[str, RunMemory] = field(default_factory=dict)
    policies: dict[Key, PolicyMemory] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    answered: dict[str, datetime] = field(default_factory=dict)
    heard: dict[str, datetime] = field(default_factory=dict)
    refusals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lost_nodes: LostNodes = field(default_factory=LostNodes)

    def run(self, uid: str) -> RunMemory:
        """What is remembered of a run, to be written."""
        return self.runs.setdefault(uid, RunMemory())

    def note(self, kind: str, body: Mapping[str, Any]) -> None:
        """A version of an object has arrived: keep what is true of it when it is gone."""
        if kind == "Job" and is_worker(body):
            self.run(owner_of(body)).worker_jobs.add(uid_of(body))
        elif kind == "Pod" and is_disrupted(without_machine(body, self.lost_nodes)):
            self.run(run_of(body)).preempted[uid_of(body)] = owner_of(body)

    def forget(self, uid: str) -> None:
        """Forget a run that has ended and left nothing."""
        self.runs.pop(uid, None)

    def retain(self, uids: Container[str]) -> None:
        """Forget all runs but these."""
        self.runs = {uid: known for uid, known in self.runs.items() if uid in uids}
        self.money = {uid: known for uid, known in self.money.items() if uid in uids}
