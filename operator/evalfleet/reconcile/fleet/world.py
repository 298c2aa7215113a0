"""Everything a Fleet reconciliation looks at, and its translation into the capacity core's snapshot. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from evalfleet.api.scalingpolicy import NodePool, ScalingPolicy
from evalfleet.reconcile.children import Phase, is_disrupted
from evalfleet.reconcile.evaluationjob.run import all_scored, deadline_of
from evalfleet.reconcile.evaluationjob.world import WorkerView, fold_progress
from evalfleet.reconcile.evaluationjob.world import World as JobWorld
from evalfleet.reconcile.fleet.pools import core_limits, core_pool, node_pools, strategy
from evalfleet_scaling.model import FleetSnapshot, Job, Worker, WorkerState

DEFAULT_MAX_WORKERS = 8


@dataclass(frozen=True, slots=True)
class World:
    """All jobs of one policy.

    Attributes:
        now: server-adjusted time.
        policy: the policy, None = built-in defaults.
        jobs: worlds of its EvaluationJobs by uid, every one that is accepted and not deleted.
    """

    now: datetime
    policy: ScalingPolicy | None
    jobs: Mapping[str, JobWorld]

    @property
    def pools(self) -> tuple[NodePool, ...]:
        """The policy's pools."""
        return node_pools(self.policy)


def snapshot(world: World) -> FleetSnapshot:
    """The capacity core's view: jobs that have a plan and work left, and their live workers."""
    jobs = {uid: job for uid, job in world.jobs.items() if takes_part(job)}
    pool_names = {pool.name for pool in world.pools}
    workers = [
        _core_worker(uid, worker, world.now)
        for uid, job in jobs.items()
        for worker in live_workers(job)
        if worker.pool in pool_names
    ]
    distinct = {(worker.job_name, worker.slot): worker for worker in workers}
    return FleetSnapshot(
        now_seconds=world.now.timestamp(),
        pools=tuple(core_pool(pool) for pool in world.pools),
        jobs=tuple(_core_job(uid, job) for uid, job in jobs.items()),
        workers=tuple(distinct.values()),
        limits=core_limits(world.policy),
        decision_period_seconds=1.0,
        strategy=strategy(world.policy),
    )


def takes_part(job: JobWorld) -> bool:
    """Whether the Fleet has to decide about this job now."""
    planned = job.is_true("Planned") and job.planned_units > 0
    return job.job is not None and not job.deleting and not job.terminal and planned and not all_scored(job)


def live_workers(job: JobWorld) -> list[WorkerView]:
    """Workers that run or start, and were not taken away."""
    return [
        worker
        for worker in job.workers
        if not worker.deleting
        and worker.child.phase in (Phase.WAITING, Phase.RUNNING)
        and not (worker.child.pod is not None and is_disrupted(worker.child.pod))
    ]


def work_left_seconds(job: JobWorld) -> float:
    """Seconds of one worker that are left: by the measured rate where there is one, else by the plan."""
    plan = job.status.get("plan") or {}
    total = max(1, job.planned_units)
    left = total - fold_progress(job).units_done
    predicted = max(float(plan.get("gpuSeconds") or 0), 5.0 * total)
    return predicted * left / total


def _core_job(uid: str, job: JobWorld) -> Job:
    assert job.job is not None
    spec = job.job.spec
    deadline = deadline_of(job)
    return Job(
        name=uid,
        work_left_gpu_seconds=work_left_seconds(job),
        max_workers=min(spec.max_workers or DEFAULT_MAX_WORKERS, max(1, job.planned_units)),
        submitted_seconds=job.created.timestamp(),
        deadline_seconds=deadline.timestamp() if deadline is not None else None,
        min_workers=min(spec.min_workers, job.planned_units),
        priority=spec.priority,
        suspended=spec.suspend,
    )


def _core_worker(uid: str, worker: WorkerView, now: datetime) -> Worker:
    running = worker.child.phase is Phase.RUNNING
    return Worker(
        name=worker.child.name,
        job_name=uid,
        slot=worker.slot,
        pool_name=worker.pool,
        state=WorkerState.READY if running else WorkerState.STARTING,
        age_seconds=max(0.0, (now - worker.created).total_seconds()),
    )
