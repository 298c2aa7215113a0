"""What metrics show of a policy: sums over its jobs and pools, never a job or a worker by name. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from evalfleet import limits
from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.state import JobState, WorkerView
from evalfleet.reconcile.policy.jobs import live_workers
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.pools import currency
from evalfleet.reconcile.policy.state import PolicyState


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """Workers of one pool.

    Attributes:
        starting, ready: live workers without and with a running container.
        gpu_workers: those that report a GPU.
        gpu_utilization: mean over them, 0 to 1; None without one.
        gpu_memory_bytes: sum over them.
    """

    starting: int = 0
    ready: int = 0
    gpu_workers: int = 0
    gpu_utilization: float | None = None
    gpu_memory_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class PolicyFigures:
    """One policy.

    Attributes:
        jobs: EvaluationJobs that have not ended, by state: queued, admitted (without a running worker), running.
        at_risk: of these, whose deadline is in danger or missed.
        pools: by name of the pool.
        requests_per_second, tokens_per_second: sums of what workers report.
        spent: money of the running UTC hour, day and month.
        saved: this month against on-demand machines.
        currency: of the money.
    """

    jobs: Mapping[str, int]
    at_risk: int
    pools: Mapping[str, PoolFigures]
    requests_per_second: float
    tokens_per_second: float
    spent: Mapping[str, Decimal]
    currency: str


@dataclass(frozen=True, slots=True)
class Transitions:
    """What happened to workers since the last pass, by pool.

    Attributes:
        provisioned: seconds from creation to a node.
        started: seconds from creation to scoring.
        preempted: machines that were taken away.
    """

    provisioned: tuple[tuple[str, float], ...] = ()
    started: tuple[tuple[str, float], ...] = ()
    preempted: tuple[str, ...] = ()


def figures(state: PolicyState) -> PolicyFigures:
    """The figures of a policy now."""
    live = [worker for job in state.jobs.values() for worker in live_workers(job)]
    open_jobs = [job for job in state.jobs.values() if not job.terminal]
    reports = [worker.progress for worker in live if worker.progress is not None and not worker.stale]
    hour, day, month = state.ledger.spent(state.now.timestamp())
    return PolicyFigures(
        jobs={"queued": 0, "admitted": 0, "running": 0, **Counter(map(_state, open_jobs))},
        at_risk=sum(_at_risk(job) for job in open_jobs),
        pools={pool.name: _pool([w for w in live if w.pool == pool.name]) for pool in state.pools},
        requests_per_second=sum(_bounded(report.requests_per_second) for report in reports),
        tokens_per_second=sum(_bounded(report.tokens_per_second) for report in reports),
        spent={"hour": hour, "day": day, "month": month},
        currency=currency(state.policy),
    )


def transitions(state: PolicyState, after: PoolHistories) -> Transitions:
    """What changed between the last pass and this one; who was there before anybody looked is not news."""
    now, before = state.now.timestamp(), state.pool_histories.workers
    known = {name: worker for name, worker in after.workers.items() if name in before}
    taken = {w.child.name for job in state.jobs.values() for w in job.workers if w.child.disrupted}
    return Transitions(
        provisioned=tuple(
            (s.pool, max(0.0, now - s.created_seconds))
            for name, s in known.items()
            if s.on_node and not before[name].on_node
        ),
        started=tuple(
            (s.pool, max(0.0, now - s.created_seconds))
            for name, s in known.items()
            if s.ready and not before[name].ready
        ),
        preempted=tuple(
            s.pool for name, s in before.items() if s.on_node and name not in after.workers and name in taken
        ),
    )


def _state(job: JobState) -> str:
    if any(worker.child.phase is Phase.RUNNING for worker in job.workers):
        return "running"
    return "admitted" if job.is_true("Admitted") else "queued"


def _at_risk(job: JobState) -> bool:
    return cond.status_of(job.status.get("conditions") or [], "OnTime") == "False"


def _pool(workers: Iterable[WorkerView]) -> PoolFigures:
    phases = Counter(worker.child.phase for worker in workers)
    reports = [worker.progress for worker in workers if worker.progress is not None]
    used = [min(_bounded(r.gpu_utilization_percent), 100.0) for r in reports if r.gpu_utilization_percent is not None]
    memory = [_bounded(r.gpu_memory_bytes) for r in reports if r.gpu_memory_bytes is not None]
    return PoolFigures(
        starting=phases[Phase.WAITING],
        ready=phases[Phase.RUNNING],
        gpu_workers=max(len(used), len(memory)),
        gpu_utilization=sum(used) / len(used) / 100 if used else None,
        gpu_memory_bytes=sum(memory),
    )


def _bounded(value: float) -> float:
    return float(min(max(value, 0), limits.LARGEST_FIGURE))
