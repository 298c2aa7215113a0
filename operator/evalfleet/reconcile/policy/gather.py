"""From the state of a policy to the question that the capacity core is asked. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from evalfleet import limits
from evalfleet.reconcile.policy.jobs import core_job, core_worker, live_workers, surplus_workers, takes_part
from evalfleet.reconcile.policy.pool_history import PoolHistories, follow, observations
from evalfleet.reconcile.policy.pools import core_limits, core_pool, strategy
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.model import FleetSnapshot, Job, Pool, PoolObservation, Worker
from evalfleet_scaling.spend import Total


@dataclass(frozen=True, slots=True)
class Question:
    """What the capacity core is asked.

    Attributes:
        snapshot: the fleet now.
        refused: why a job cannot be part of it, by uid.
        pool_histories: what the pools showed, this pass included.
    """

    snapshot: FleetSnapshot
    refused: Mapping[str, str]
    pool_histories: PoolHistories


def ask(state: PolicyState) -> Question:
    """The capacity core's view: jobs that have a plan and work left, and their live workers."""
    pools = tuple(core_pool(pool) for pool in state.pools)
    everyone = [worker for job in state.jobs.values() for worker in job.workers]
    histories = follow(state.pool_histories, pools, everyone, state.now)
    observed = observations(histories, pools, state.now)
    jobs, refused = _jobs(state)
    snapshot = FleetSnapshot(
        now_seconds=state.now.timestamp(),
        pools=pools,
        jobs=jobs,
        workers=_workers(state, jobs, _startups(pools, observed), histories.overdue),
        observations=observed,
        limits=core_limits(state.policy, state.ledger.spent(state.now.timestamp())),
        decision_period_seconds=limits.DECISION_PERIOD_SECONDS,
        strategy=strategy(state.policy),
        memory=state.memory,
    )
    return Question(snapshot, refused, histories)


def _jobs(state: PolicyState) -> tuple[tuple[Job, ...], dict[str, str]]:
    """Jobs as the core knows them; one that asks for the impossible harms only itself."""
    known, refused = [], {}
    for uid, job in state.jobs.items():
        if not takes_part(job):
            continue
        try:
            known.append(core_job(uid, job, state.ledger.runs.get(uid, Total()).cost))
        except (ScalingInputError, ValueError, OverflowError) as error:
            refused[uid] = str(error)
    return tuple(known), refused


def _startups(pools: tuple[Pool, ...], observed: tuple[PoolObservation, ...]) -> dict[str, float]:
    """Planned start-up by pool."""
    known = {item.pool_name: item.startup_p95_seconds for item in observed}
    return {pool.name: known.get(pool.name) or pool.expected_startup_seconds for pool in pools}


def _workers(
    state: PolicyState, jobs: tuple[Job, ...], startups: Mapping[str, float], overdue: frozenset[str]
) -> tuple[Worker, ...]:
    """Live workers, one a slot; a spot worker whose launch failed holds no slot any more."""
    spot = {pool.name for pool in state.pools if pool.capacity_type == "Spot"}
    left_out = frozenset[str]().union(*(surplus_workers(state.jobs[job.name]) for job in jobs))
    return tuple(
        core_worker(job.name, worker, startups[worker.pool], state.now)
        for job in jobs
        for worker in live_workers(state.jobs[job.name])
        if worker.pool in startups
        and worker.child.name not in left_out
        and not (worker.child.name in overdue and worker.pool in spot)
    )
