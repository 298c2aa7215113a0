"""From a decision for a policy's jobs to Jobs that are created and deleted. Pure."""

from evalfleet.manifests.jobs import worker_job
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.decision import Action, Create
from evalfleet.reconcile.job.pods import pod_shape
from evalfleet.reconcile.job.state import JobState, removal
from evalfleet.reconcile.policy.gather import Question
from evalfleet.reconcile.policy.jobs import live_workers, surplus_workers, takes_part
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.model import FleetDecision, JobDecision


def worker_actions(state: PolicyState, question: Question, decision: FleetDecision) -> tuple[Action, ...]:
    """Workers to delete, of all jobs, then workers to create."""
    by_uid = {member.job_name: member for member in decision.jobs}
    lost = _failed_launches(state, question) | _of_no_pool(state)
    actions: list[Action] = []
    for uid, job in state.jobs.items():
        actions += _removals(job, by_uid.get(uid), lost)
    for uid, member in by_uid.items():
        actions += _creations(state, state.jobs[uid], member)
    return tuple(actions)


def _failed_launches(state: PolicyState, question: Question) -> frozenset[str]:
    """Spot workers that no node came for: they hold nothing and cost nothing, but nobody should count on them."""
    spot = {pool.name for pool in state.pools if pool.capacity_type == "Spot"}
    workers = question.pool_histories.workers
    return frozenset(name for name in question.pool_histories.overdue if workers[name].pool in spot)


def _of_no_pool(state: PolicyState) -> frozenset[str]:
    """Workers of a pool that the policy has no more: no limit and no decision counts them."""
    names = {pool.name for pool in state.pools}
    return frozenset(w.child.name for job in state.jobs.values() for w in job.workers if w.pool not in names)


def _removals(job: JobState, member: JobDecision | None, lost: frozenset[str]) -> list[Action]:
    """Victims, workers whose machine was taken away or never came, and all workers of a job that needs none."""
    live = {worker.child.name for worker in live_workers(job)}
    gone = {
        worker.child.name
        for worker in job.workers
        if not worker.deleting
        and worker.child.phase in (Phase.WAITING, Phase.RUNNING)
        and worker.child.name not in live
    }
    dropped = set(member.victims) if member is not None else set() if takes_part(job) else live
    unwanted = gone | surplus_workers(job) | ((dropped | lost) & live)
    named = {worker.child.name: worker.child for worker in job.workers}
    return [removal(job.identity, named[name]) for name in sorted(unwanted & named.keys())]


def _creations(state: PolicyState, job: JobState, member: JobDecision) -> list[Action]:
    pools = {pool.name: pool for pool in state.pools}
    newest: dict[int, int] = {}
    for worker in job.workers:
        newest[worker.slot] = max(newest.get(worker.slot, 0), worker.generation)
    return [
        Create(
            worker_job(
                job.identity,
                pod_shape(job),
                pools[start.pool_name],
                start.slot,
                max(newest.get(start.slot, 0), job.generations.get(start.slot, 0)) + 1,
            )
        )
        for start in member.starts
    ]
