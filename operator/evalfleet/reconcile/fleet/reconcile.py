"""The table of contents of a Fleet reconciliation: decide for all jobs, turn the decision into Jobs. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evalfleet.manifests import worker_job
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.evaluationjob.pods import pod_shape
from evalfleet.reconcile.evaluationjob.world import FleetVerdict
from evalfleet.reconcile.evaluationjob.world import World as JobWorld
from evalfleet.reconcile.fleet.world import World, live_workers, snapshot, takes_part
from evalfleet.reconcile.steps import Action, Create, Delete
from evalfleet_scaling.model import FleetDecision, FleetSnapshot, JobDecision

Decide = Callable[[FleetSnapshot], FleetDecision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows for the policy's jobs.

    Attributes:
        actions: worker Jobs to delete and to create.
        verdicts: what each job is told, by uid.
        decision: the decision itself.
    """

    actions: tuple[Action, ...]
    verdicts: Mapping[str, FleetVerdict]
    decision: FleetDecision


def reconcile(world: World, decide: Decide) -> Outcome:
    """Decide for all jobs of the policy together."""
    decision = decide(snapshot(world))
    by_uid = {member.job_name: member for member in decision.jobs}
    actions: list[Action] = []
    for uid, job in world.jobs.items():
        actions += _removals(job, by_uid.get(uid))
    for uid, member in by_uid.items():
        actions += _creations(world, world.jobs[uid], member)
    verdicts = {
        uid: FleetVerdict(member.admitted, member.desired_workers, member.reason, member.message)
        for uid, member in by_uid.items()
    }
    return Outcome(tuple(actions), verdicts, decision)


def _removals(job: JobWorld, member: JobDecision | None) -> list[Action]:
    """Victims, workers whose machine was taken away, and all workers of a job that needs none."""
    live = {worker.child.name for worker in live_workers(job)}
    gone = {
        worker.child.name
        for worker in job.workers
        if not worker.deleting
        and worker.child.phase in (Phase.WAITING, Phase.RUNNING)
        and worker.child.name not in live
    }
    dropped = set(member.victims) if member is not None else set() if takes_part(job) else live
    unwanted = gone | (dropped & live)
    return [Delete("Job", job.identity.namespace, name) for name in sorted(unwanted)]


def _creations(world: World, job: JobWorld, member: JobDecision) -> list[Action]:
    pools = {pool.name: pool for pool in world.pools}
    newest: dict[int, int] = {}
    for worker in job.workers:
        newest[worker.slot] = max(newest.get(worker.slot, 0), worker.generation)
    seen = job.extra.get("generations") or {}
    return [
        Create(
            worker_job(
                job.identity,
                pod_shape(job),
                pools[start.pool_name],
                start.slot,
                max(newest.get(start.slot, 0), int(seen.get(start.slot, 0))) + 1,
            )
        )
        for start in member.starts
    ]
