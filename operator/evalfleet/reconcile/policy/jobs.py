"""EvaluationJobs and their workers as the capacity core knows them. Pure."""

from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from math import ceil

from evalfleet import limits
from evalfleet.api.evaluationjob import Sla
from evalfleet.api.scalingpolicy import PolicySla
from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.announce import BEST_EFFORT
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.accept import taken_back
from evalfleet.reconcile.job.deadline import deadline_of
from evalfleet.reconcile.job.state import JobState, WorkerView, all_scored, fold_progress
from evalfleet.reconcile.policy.pool_history import asked_at, is_scoring
from evalfleet.reconcile.policy.settle import written_price
from evalfleet_scaling.model import Budget, Job, OnConflict, OnInfeasible, Worker, WorkerState


def takes_part(job: JobState) -> bool:
    """Whether the Fleet has to decide about this job now: not about one that its policy does not permit any more."""
    planned = job.is_planned and job.planned_units > 0
    refused = taken_back(job) is not None if job.run is not None else job.is_false("Accepted")
    ended = job.deleting or job.terminal or refused
    held = job.left_alone or job.policy_gone
    return job.job is not None and not ended and not held and planned and not all_scored(job)


def live_workers(job: JobState) -> list[WorkerView]:
    """Workers that run or start, and were not taken away."""
    return [
        worker
        for worker in job.workers
        if not worker.deleting and worker.child.phase in (Phase.WAITING, Phase.RUNNING) and not worker.child.disrupted
    ]


def surplus_workers(job: JobState, aside: frozenset[str] = frozenset()) -> frozenset[str]:
    """Names of live workers whose slot another one has: of two operators that led for a moment, each started one.

    One that stands `aside` holds no slot before it has a node.
    """
    holders = (worker for worker in live_workers(job) if worker.child.name not in aside)
    ordered = sorted(holders, key=lambda w: (w.slot, w.child.phase is not Phase.RUNNING, w.generation))
    return frozenset(other.child.name for one, other in pairwise(ordered) if one.slot == other.slot)


def core_job(uid: str, job: JobState, spent: Decimal) -> Job:
    """A job with work left; ScalingInputError when it asks for the impossible."""
    assert job.job is not None
    spec, sla, deadline = job.job.spec, job.job.spec.sla or Sla(), deadline_of(job)
    policy_sla = (job.policy.spec.sla if job.policy is not None else None) or PolicySla()
    total = predicted_seconds(job)
    left = work_left_seconds(job)
    live = live_workers(job)
    width = max(1, min(spec.max_workers or limits.MAX_WORKERS, job.planned_units))
    # No start for the last few seconds of work, and no stop either: who finds nothing left ends by itself.
    useful = max(1, min(width, max(len(live), ceil(left / limits.WORKER_WORTH_SECONDS))))
    wait = sla.queue_wait_seconds if sla.queue_wait_seconds is not None else policy_sla.default_queue_wait_seconds
    return Job(
        name=uid,
        work_left_gpu_seconds=left,
        max_workers=useful,
        submitted_seconds=job.created.timestamp(),
        work_total_gpu_seconds=total,
        admitted_seconds=_since(job, "Admitted"),
        deadline_seconds=None if deadline is None else deadline.timestamp() - limits.FINISH_SECONDS,
        min_workers=min(spec.min_workers, useful),
        priority=spec.priority,
        queue_wait_seconds=None if wait is None else float(wait),
        first_ready_seconds=job.created.timestamp() if _had_a_worker(job) else None,
        last_served_seconds=job.now.timestamp() if live else _transition(job, "WorkersReady"),
        budget=None if spec.budget is None else _budget(spec.budget.max_cost, spec.budget.on_conflict),
        spent=spent,
        on_infeasible=OnInfeasible(sla.on_infeasible or policy_sla.on_infeasible),
        suspended=spec.suspend,
        best_effort=_is_best_effort(job),
    )


def core_worker(uid: str, worker: WorkerView, planned_startup_seconds: float, now: datetime) -> Worker:
    """A worker that runs or starts."""
    ready = is_scoring(worker, planned_startup_seconds, now)
    age = max(0.0, (now - asked_at(worker)).total_seconds())
    # Who is late may take as long again: it is not a second from ready because it should have been.
    left = planned_startup_seconds - age if age < planned_startup_seconds else planned_startup_seconds
    return Worker(
        name=worker.child.name,
        job_name=uid,
        slot=worker.slot,
        pool_name=worker.pool,
        state=WorkerState.READY if ready else WorkerState.STARTING,
        startup_left_seconds=0.0 if ready else left,
        age_seconds=age,
        price_per_hour=written_price(worker.price_per_hour),
    )


def predicted_seconds(job: JobState) -> float:
    """GPU-seconds of the whole job by its plan."""
    plan = job.status.get("plan") or {}
    return max(float(plan.get("gpuSeconds") or 0), limits.UNIT_SECONDS * max(1, job.planned_units))


def silence_seconds(job: JobState, worker: WorkerView) -> float:
    """How long nothing of a worker may move: some units' time while it scores, by the plan or as it took itself so far.

    One that loads a model, or waits for what others hold, has more time.
    """
    progress, units = worker.progress, max(1, job.planned_units)
    if progress is None or progress.units_own == 0 or progress.state != "Scoring":
        return limits.SILENT_FIRST_SECONDS
    planned, taken = predicted_seconds(job) / units, progress.scoring_seconds / progress.units_own
    return max(limits.SILENT_LEAST_SECONDS, limits.SILENT_UNITS * max(planned, taken))


def work_left_seconds(job: JobState) -> float:
    """Seconds of one worker that are left: by the measured rate where there is one, else by the plan."""
    total = max(1, job.planned_units)
    return predicted_seconds(job) * slowdown(job) * (total - fold_progress(job).units_done) / total


def slowdown(job: JobState) -> float:
    """How much slower than planned a worker is, by its own measurement; 1 while nothing is known."""
    rates = [worker.requests_per_second for worker in live_workers(job)]
    measured = [rate for rate in rates if rate > 0]
    requests = int((job.status.get("plan") or {}).get("requests") or 0)
    if not measured or requests == 0 or fold_progress(job).requests_done < min(limits.TRUSTED_REQUESTS, requests):
        return 1.0
    planned_rate = requests / predicted_seconds(job)
    return min(max(planned_rate / (sum(measured) / len(measured)), 0.1), 100.0) * limits.RATE_MARGIN


def _budget(max_cost: str, on_conflict: str) -> Budget:
    return Budget(Decimal(max_cost), OnConflict(on_conflict))


def _since(job: JobState, kind: str) -> float | None:
    """When a condition that is True became so."""
    return _transition(job, kind) if job.is_true(kind) else None


def _transition(job: JobState, kind: str) -> float | None:
    """When a condition last changed."""
    condition = cond.find(job.status.get("conditions") or [], kind)
    return None if condition is None else datetime.fromisoformat(str(condition["lastTransitionTime"])).timestamp()


def _had_a_worker(job: JobState) -> bool:
    return job.is_true("WorkersReady") or fold_progress(job).units_done > 0


def _is_best_effort(job: JobState) -> bool:
    """Whether it was admitted without a guarantee; the condition remembers it across restarts."""
    condition = cond.find(job.status.get("conditions") or [], "Admitted")
    return condition is not None and condition.get("reason") == BEST_EFFORT
