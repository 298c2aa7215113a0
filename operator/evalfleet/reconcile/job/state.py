"""Everything a reconciliation of one EvaluationJob looks at, as one frozen value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from evalfleet import limits
from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.manifests.accelerators import ANY
from evalfleet.manifests.frozen import FrozenRun
from evalfleet.manifests.names import Identity
from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.children import Child, Phase
from evalfleet.reconcile.decision import Delete
from evalfleet_worker.protocol import PlanReport, Progress

POLICY_NOT_FOUND = "PolicyNotFound"
"""Reason of Accepted while the policy is away."""


@dataclass(frozen=True, slots=True)
class WorkerView:
    """One worker Job of the EvaluationJob.

    `failures` are its pods that failed by themselves, `heard` is when its progress last moved, None = never.
    """

    child: Child
    pool: str
    slot: int
    generation: int
    capacity_type: str
    price_per_hour: str
    created: datetime
    progress: Progress | None = None
    deleting: bool = False
    uid: str = ""
    failures: int = 0
    heard: datetime | None = None
    stale: bool = False
    """Whether its progress is old: what it has done is done, how fast it is nobody knows."""

    @property
    def requests_per_second(self) -> float:
        """Its own rate, 0 while it is not known."""
        return 0.0 if self.progress is None or self.stale else self.progress.requests_per_second


@dataclass(frozen=True, slots=True)
class Admission:
    """What the Fleet decided for this job: admitted or not, workers wanted, and why."""

    admitted: bool
    desired: int
    reason: str
    message: str
    best_effort: bool = False
    """Admitted although nothing guarantees its deadline."""
    setback: tuple[str, str] | None = None
    """Reason and sentence of what keeps its workers from running, and when they are tried again."""
    stalled: bool = False
    """Whether somebody has to look at that."""


@dataclass(frozen=True, slots=True)
class Money:
    """Cost of the job: spent so far, the same seconds on demand, and what its present workers cost an hour."""

    spent: Decimal
    on_demand_equivalent: Decimal
    per_hour: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Eta:
    """When results are expected: 10, 50 and 90 % quantiles, and the probability of meeting the deadline."""

    low: datetime
    expected: datetime
    high: datetime
    in_time: float | None


@dataclass(frozen=True, slots=True)
class Site:
    """What the operator's settings say of the cluster that all jobs run in.

    Attributes:
        worker_image: default image of plan, work and finish pods.
        host_cache: folder for models that all pods share, on host nodes of one machine; None = each pod has its own.
        allow_file_uris: whether file:// and package:// URIs mean the same to every pod.
        simulated_gpus: whether the GPUs of the pools are simulated, so that workers compute on the CPU.
    """

    worker_image: str
    host_cache: str | None = None
    allow_file_uris: bool = False
    simulated_gpus: bool = False


@dataclass(frozen=True, slots=True)
class JobState:
    """One EvaluationJob and what belongs to it.

    Attributes:
        now: server-adjusted time.
        job: the parsed object, or None when it is invalid.
        problem: why it is invalid.
        identity: namespace, name and uid.
        generation, version: metadata.generation and metadata.resourceVersion.
        created: metadata.creationTimestamp.
        deleting: whether deletion has begun.
        status: the status as read.
        policy: the policy it uses; None = built-in defaults.
        policy_missing: a named policy does not exist.
        plan, finish: the plan Job and the newest finish Job.
        plan_attempt, finish_attempt: how often they were begun, 0 = not yet.
        begun: when the newest plan and finish Jobs were created, by role; also of those that are gone.
        superseded: uids by name of older plan and finish Jobs: another attempt has taken their place.
        workers: its worker Jobs.
        admission: what the Fleet decided for it, once it did.
        money: spend of the run, once there is some.
        eta: when it will be done, where that can be foreseen.
        policy_problem: why the policy cannot be read; empty when it can.
        policy_uid: of the policy as it is now; empty without one.
        run: what was frozen when the run began, None before that.
        run_problem: why that cannot be read; empty when it can.
        site: what the settings say of the cluster.
        bindings: when its worker pods were created and bound to a node.
        preempted: worker pods taken away that may not be counted yet, also those that are gone.
        counted_preemptions: those that are gone and counted in the status: nobody has to remember them.
        generations: highest generation of a worker created, by slot; its Job may not be seen yet.
    """

    now: datetime
    job: EvaluationJob | None
    problem: str
    identity: Identity
    generation: int
    created: datetime
    deleting: bool
    status: Mapping[str, Any]
    policy: ScalingPolicy | None
    policy_missing: bool
    plan: Child
    finish: Child
    finish_attempt: int
    workers: tuple[WorkerView, ...]
    admission: Admission | None
    site: Site
    money: Money | None = None
    eta: Eta | None = None
    policy_problem: str = ""
    bindings: tuple[tuple[datetime, datetime], ...] = ()
    preempted: frozenset[str] = frozenset()
    counted_preemptions: frozenset[str] = frozenset()
    generations: Mapping[int, int] = field(default_factory=dict)
    version: str = ""
    plan_attempt: int = 0
    begun: Mapping[str, datetime] = field(default_factory=dict)
    superseded: Mapping[str, str] = field(default_factory=dict)
    run: FrozenRun | None = None
    run_problem: str = ""
    policy_uid: str = ""

    @property
    def device_kind(self) -> str:
        """What its run is computed on; `Auto` before it has begun."""
        return self.run.spec.device_kind if self.run is not None else ANY

    @property
    def policy_gone(self) -> bool:
        """Whether it began under a policy that does not exist any more: it never falls back to built-in defaults."""
        return self.run is not None and bool(self.run.policy_uid) and self.policy is None and not self.policy_problem

    @property
    def grace_until(self) -> datetime:
        """Until when what runs goes on without the policy: GitOps tools replace objects by deleting them first."""
        since = self.status.get("policyGoneTime")
        return (datetime.fromisoformat(str(since)) if since else self.now) + limits.POLICY_GRACE

    @property
    def away(self) -> tuple[str, str] | None:
        """Reason and sentence while a run that has begun misses its policy; None when it does not."""
        if self.run is None:
            return None
        name = f"ScalingPolicy {self.run.policy_name!r}"
        if self.policy_problem:
            return "PolicyInvalid", f"{name} cannot be read: {self.policy_problem}; no worker starts, what runs goes on"
        if not self.policy_gone:
            return None
        until = self.grace_until
        runs = "what runs goes on until" if self.now < until else "its workers were stopped at"
        advice = "create it again, and the run goes on as it began"
        return POLICY_NOT_FOUND, f"{name} is gone: no worker starts, {runs} {until:%Y-%m-%dT%H:%M:%SZ}; {advice}"

    @property
    def left_alone(self) -> bool:
        """Whether its pods are neither started nor ended: this version cannot read it, or its policy is just away."""
        if self.is_stopped:
            return False
        if self.job is None or self.run_problem or self.policy_problem:
            return True
        return self.policy_gone and self.now < self.grace_until

    @property
    def is_stopped(self) -> bool:
        """Whether somebody wants nothing of it to run, whatever else can be read or decided."""
        return self.deleting or (self.job is not None and self.job.spec.suspend)

    def is_true(self, kind: str) -> bool:
        """Whether a condition was True in the status as read."""
        return cond.status_of(self.status.get("conditions") or [], kind) == "True"

    def is_false(self, kind: str) -> bool:
        """Whether a condition was False in the status as read."""
        return cond.status_of(self.status.get("conditions") or [], kind) == "False"

    @property
    def terminal(self) -> bool:
        """Whether the job has succeeded or failed for good."""
        return cond.status_of(self.status.get("conditions") or [], "Succeeded") in ("True", "False")

    @property
    def is_planned(self) -> bool:
        """Whether the size is known."""
        return self.is_true("Planned") and self.status.get("plan") is not None

    @property
    def planned_units(self) -> int:
        """Units of the plan, 0 before it is known."""
        return int((self.status.get("plan") or {}).get("units") or 0)


def removal(identity: Identity, child: Child) -> Delete:
    """Delete a child: the Job that was looked at, not another one that has its name by then."""
    return Delete("Job", identity.namespace, child.name, child.uid or None)


def live_cpu_jobs(state: JobState) -> tuple[Delete, ...]:
    """The plan and finish Jobs that wait or run, to be deleted: nothing of the run may go on."""
    live = (child for child in (state.plan, state.finish) if child.phase in (Phase.WAITING, Phase.RUNNING))
    return tuple(removal(state.identity, child) for child in live)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """The run as its workers see it, folded into one picture that never goes back.

    Attributes:
        units_done: committed units.
        requests_done: committed requests.
        requests_per_second: measured sum over workers, None while unknown.
        failures: units that failed for good, as far as seen.
    """

    units_done: int
    requests_done: int
    requests_per_second: float | None


def fold_progress(state: JobState) -> RunProgress:
    """The newest counts of all workers, not below the status as read and not above the plan."""
    before = state.status.get("progress") or {}
    known = [worker.progress for worker in state.workers if worker.progress is not None]
    together = sum(p.units_own for p in known)  # newer than what each has seen of the others
    done = max([int(before.get("unitsDone") or 0), together, *(p.units_done for p in known)])
    requests = max([sum(p.requests_own for p in known), *(p.requests_done for p in known)])
    rate = sum(worker.requests_per_second for worker in state.workers)
    return RunProgress(min(done, state.planned_units), requests, rate if known and rate > 0 else None)


def all_scored(state: JobState) -> bool:
    """Whether nothing is left: by count, or because a worker found nothing left to claim."""
    if state.planned_units == 0:
        return True
    counted = fold_progress(state).units_done >= state.planned_units
    return counted or any(worker.child.phase is Phase.SUCCEEDED for worker in state.workers)


def plan_status(report: PlanReport) -> dict[str, Any]:
    """The plan as status shows it."""
    return {
        "requests": report.requests,
        "tokens": report.tokens,
        "cachedRequests": report.cached_requests,
        "units": report.units,
        "samples": report.samples,
        "gpuSeconds": round(report.predicted_seconds),
        "gpuMemoryBytes": report.memory_bytes,
        "modelDigest": report.model_digest,
    }
