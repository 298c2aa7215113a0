"""From the state of a policy to the question that the capacity core is asked. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from evalfleet import limits
from evalfleet.manifests.accelerators import computes
from evalfleet.reconcile.job.state import JobState, WorkerView
from evalfleet.reconcile.liveness import FOREVER, Patience
from evalfleet.reconcile.policy.jobs import (
    core_job,
    core_worker,
    live_workers,
    silence_seconds,
    surplus_workers,
    takes_part,
)
from evalfleet.reconcile.policy.pool_history import (
    PoolHistories,
    follow,
    observations,
    patience_seconds,
    standing_aside,
)
from evalfleet.reconcile.policy.pools import core_limits, core_pool, strategy
from evalfleet.reconcile.policy.setbacks import PatienceOf, Setbacks, judge_workers
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
        held: uids of jobs that have no pool to try now.
        pool_histories, setbacks: what the pools and the workers showed, this pass included.
        aside, asking: workers that no node came for, and those of them that go on asking.
    """

    snapshot: FleetSnapshot
    refused: Mapping[str, str]
    held: frozenset[str]
    pool_histories: PoolHistories
    setbacks: Setbacks
    aside: frozenset[str]
    asking: frozenset[str]


def ask(state: PolicyState) -> Question:
    """The capacity core's view: jobs that have a plan and work left, and their live workers."""
    pools = tuple(core_pool(pool) for pool in state.pools)
    histories = follow(state.pool_histories, pools, state.jobs, state.now)
    setbacks = judge_workers(
        state.setbacks, state.jobs, _patience(histories, pools), _asks_for_more(histories), state.now
    )
    aside, asking = standing_aside(histories, pools, state.now)
    observed = observations(histories, pools, state.now)
    uncounted = setbacks.lost | aside
    jobs, refused, held = _jobs(state, setbacks, uncounted)
    snapshot = FleetSnapshot(
        now_seconds=state.now.timestamp(),
        pools=pools,
        jobs=jobs,
        workers=_workers(state, jobs, _startups(pools, observed), uncounted),
        observations=observed,
        limits=core_limits(state.policy, state.ledger.spent(state.now.timestamp())),
        decision_period_seconds=limits.DECISION_PERIOD_SECONDS,
        strategy=strategy(state.policy),
        memory=state.memory,
    )
    return Question(snapshot, refused, held, histories, setbacks, aside, asking)


def _patience(histories: PoolHistories, pools: tuple[Pool, ...]) -> PatienceOf:
    """How long a worker may take, by its pool and its job; of a pool that is gone nothing is known."""
    by_name = {pool.name: patience_seconds(histories, pool) for pool in pools}

    def patience(job: JobState, view: WorkerView) -> Patience:
        start = by_name.get(view.pool, FOREVER.start_seconds)
        return Patience(start, start, silence_seconds(job, view))

    return patience


def _asks_for_more(histories: PoolHistories) -> Callable[[str], bool]:
    """Whether a worker waits for a node because of what its own job asks for."""
    return lambda name: name in histories.workers and not histories.workers[name].asks


def _jobs(
    state: PolicyState, setbacks: Setbacks, uncounted: frozenset[str]
) -> tuple[tuple[Job, ...], dict[str, str], frozenset[str]]:
    """Jobs as the core knows them; one that asks for the impossible, or cannot run anywhere, harms only itself."""
    known, refused, held = [], {}, set()
    for uid, job in state.jobs.items():
        if not takes_part(job):
            continue
        try:
            core = core_job(uid, job, state.ledger.runs.get(uid, Total()).cost)
        except (ScalingInputError, ValueError, OverflowError) as error:
            refused[uid] = str(error)
            continue
        kept = [worker for worker in live_workers(job) if worker.child.name not in uncounted]
        bounded = _bounded(state, core, kept, setbacks)
        if bounded is None:
            held.add(uid)
        else:
            known.append(bounded)
    return tuple(known), refused, frozenset(held)


def _bounded(state: PolicyState, job: Job, kept: list[WorkerView], setbacks: Setbacks) -> Job | None:
    """A job as far as its setbacks let it grow; None when there is nothing to decide for it.

    What runs goes on where it is. What could run nowhere is tried with one worker.
    """
    fitting = [pool.name for pool in state.pools if computes(pool, state.jobs[job.name].device_kind)]
    open_pools = {name for name in fitting if not setbacks.holds_back(job.name, name, state.now)}
    if not open_pools and not kept:
        return None
    width = job.max_workers
    if not open_pools or setbacks.probes(job.name):
        width = max(1, len(kept))
    allowed = frozenset(open_pools | {worker.pool for worker in kept})
    return replace(
        job,
        max_workers=min(job.max_workers, width),
        min_workers=min(job.min_workers, width),
        allowed_pools=None if len(open_pools) == len(state.pools) else allowed,
    )


def startups_of(snapshot: FleetSnapshot) -> dict[str, float]:
    """Planned start-up by pool."""
    return _startups(snapshot.pools, snapshot.observations)


def _startups(pools: tuple[Pool, ...], observed: tuple[PoolObservation, ...]) -> dict[str, float]:
    known = {item.pool_name: item.startup_p95_seconds for item in observed}
    return {pool.name: known.get(pool.name) or pool.expected_startup_seconds for pool in pools}


def _workers(
    state: PolicyState, jobs: tuple[Job, ...], startups: Mapping[str, float], uncounted: frozenset[str]
) -> tuple[Worker, ...]:
    """Live workers, one a slot; one that is given up, or that no node came for, holds no slot any more."""
    left_out = uncounted.union(*(surplus_workers(state.jobs[job.name], uncounted) for job in jobs))
    return tuple(
        core_worker(job.name, worker, startups[worker.pool], state.now)
        for job in jobs
        for worker in live_workers(state.jobs[job.name])
        if worker.pool in startups and worker.child.name not in left_out
    )
