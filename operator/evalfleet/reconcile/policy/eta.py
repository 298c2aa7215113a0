"""When each job will be done, with its uncertainty: the capacity core's estimate. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from evalfleet import limits
from evalfleet.reconcile.job.state import Eta
from evalfleet_scaling.eta import EtaInput, estimate_finish
from evalfleet_scaling.model import FleetDecision, FleetSnapshot, Job, JobDecision, Pool, PoolObservation, WorkerState


def estimates(
    snapshot: FleetSnapshot, decision: FleetDecision, measured: frozenset[str], now: datetime
) -> dict[str, Eta]:
    """Estimates by job name, for the jobs whose end can be foreseen."""
    decided = {member.job_name: member for member in decision.jobs}
    found = {}
    for job in snapshot.jobs:
        eta = _estimate(snapshot, job, decided[job.name], measured, now)
        if eta is not None:
            found[job.name] = eta
    return found


def _estimate(
    snapshot: FleetSnapshot, job: Job, member: JobDecision, measured: frozenset[str], now: datetime
) -> Eta | None:
    if not member.admitted or job.suspended:
        return None
    finish = estimate_finish(_input(snapshot, job, member, measured))
    if finish.p50 > limits.LONGEST_ETA_SECONDS:
        return None
    low, middle, high = (now + timedelta(seconds=_bounded(value)) for value in (finish.p10, finish.p50, finish.p90))
    return Eta(low, middle, high, finish.in_time_probability)


def _input(snapshot: FleetSnapshot, job: Job, member: JobDecision, measured: frozenset[str]) -> EtaInput:
    workers = [w for w in snapshot.workers if w.job_name == job.name and w.name not in member.victims]
    starting = [worker for worker in workers if worker.state is WorkerState.STARTING]
    observed = {item.pool_name: item for item in snapshot.observations}
    pools = {pool.name: pool for pool in snapshot.pools}
    on_demand = [pool for pool in snapshot.pools if not pool.is_spot and pool.max_workers > 0]
    new = [_startup(pools[start.pool_name], observed) for start in member.starts]
    waits = [worker.startup_left_seconds for worker in starting] + new
    interruptions = [_interruptions(worker.pool_name, observed) for worker in workers]
    startups = [_startup(pools[worker.pool_name], observed) for worker in workers] + new
    return EtaInput(
        work_left_gpu_seconds=job.work_left_gpu_seconds,
        ready_workers=len(workers) - len(starting),
        starting_workers=len(waits),
        startup_left_seconds=_mean(waits),
        interruptions_per_hour=_mean(interruptions),
        seconds_lost_per_interruption=_mean(startups) + limits.UNIT_SECONDS / 2,
        rate_relative_error=job.rate_relative_error if job.name in measured else limits.UNMEASURED_RATE_ERROR,
        deadline_seconds=None if job.deadline_seconds is None else job.deadline_seconds - snapshot.now_seconds,
        guaranteed=job.deadline_seconds is not None and not member.best_effort and bool(on_demand),
        fallback_workers=min(job.max_workers, sum(pool.max_workers for pool in on_demand)),
        fallback_startup_seconds=max((_startup(pool, observed) for pool in on_demand), default=0.0),
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _startup(pool: Pool, observed: Mapping[str, PoolObservation]) -> float:
    known = observed[pool.name].startup_p50_seconds if pool.name in observed else None
    return pool.expected_startup_seconds if known is None else known


def _interruptions(pool: str, observed: Mapping[str, PoolObservation]) -> float:
    return observed[pool].interruptions_per_hour if pool in observed else 0.0


def _bounded(seconds: float) -> float:
    return min(seconds, limits.LONGEST_ETA_SECONDS) + limits.FINISH_SECONDS
