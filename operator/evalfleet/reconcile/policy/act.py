"""From a decision for a policy's jobs to Jobs that are created and deleted. Pure."""

from evalfleet.manifests.jobs import Place, worker_job
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.decision import Action, Create
from evalfleet.reconcile.job.pods import pod_shape
from evalfleet.reconcile.job.state import JobState, removal
from evalfleet.reconcile.policy.gather import Question
from evalfleet.reconcile.policy.jobs import live_workers, surplus_workers, takes_part
from evalfleet.reconcile.policy.setbacks import Setbacks
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.model import FleetDecision, JobDecision


def worker_actions(state: PolicyState, question: Question, decision: FleetDecision) -> tuple[Action, ...]:
    """Workers to delete, of all jobs, then workers to create."""
    by_uid = {member.job_name: member for member in decision.jobs}
    lost = question.setbacks.lost | (question.aside - question.asking) | _of_no_pool(state)
    actions: list[Action] = []
    for uid, job in state.jobs.items():
        unwanted = lost | surplus_workers(job, question.aside | lost)
        actions += _removals(job, by_uid.get(uid), unwanted)
    for uid, member in by_uid.items():
        actions += _creations(state, state.jobs[uid], member, question.setbacks)
    return tuple(actions)


def _of_no_pool(state: PolicyState) -> frozenset[str]:
    """Workers of a pool that the policy has no more: no limit and no decision counts them."""
    names = {pool.name for pool in state.pools}
    return frozenset(w.child.name for job in state.jobs.values() for w in job.workers if w.pool not in names)


def stopped_workers(state: PolicyState) -> tuple[Action, ...]:
    """Workers of suspended and deleted jobs: they go, and cost nothing more, whatever cannot be read or decided."""
    stopped = (job for job in state.jobs.values() if job.is_stopped)
    return tuple(removal(job.identity, worker.child) for job in stopped for worker in live_workers(job))


def _removals(job: JobState, member: JobDecision | None, lost: frozenset[str]) -> list[Action]:
    """Victims, workers that are given up or whose machine was taken away, and all workers of a job that needs none."""
    if job.left_alone:
        return []
    live = {worker.child.name for worker in live_workers(job)}
    gone = {
        worker.child.name
        for worker in job.workers
        if not worker.deleting
        and worker.child.phase in (Phase.WAITING, Phase.RUNNING)
        and worker.child.name not in live
    }
    dropped = set(member.victims) if member is not None else set() if takes_part(job) else live
    unwanted = gone | ((dropped | lost) & live)
    named = {worker.child.name: worker.child for worker in job.workers}
    return [removal(job.identity, named[name]) for name in sorted(unwanted & named.keys())]


def _creations(state: PolicyState, job: JobState, member: JobDecision, setbacks: Setbacks) -> list[Action]:
    pools = {pool.name: pool for pool in state.pools}
    newest: dict[int, int] = {}
    for worker in job.workers:
        newest[worker.slot] = max(newest.get(worker.slot, 0), worker.generation)
    avoid = setbacks.avoided(state.now)

    def place(slot: int) -> Place:
        return Place(slot, max(newest.get(slot, 0), job.generations.get(slot, 0)) + 1, avoid)

    return [
        Create(
            worker_job(job.identity, pod_shape(job, pools[start.pool_name]), pools[start.pool_name], place(start.slot))
        )
        for start in member.starts
        if not setbacks.holds_back(member.job_name, start.pool_name, state.now)
    ]
