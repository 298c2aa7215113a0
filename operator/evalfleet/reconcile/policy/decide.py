"""The table of contents of a Fleet reconciliation: decide for all jobs, turn the decision into Jobs. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from evalfleet.manifests.jobs import worker_job
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.pods import pod_shape
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.job.world import Eta, FleetVerdict
from evalfleet.reconcile.job.world import World as JobWorld
from evalfleet.reconcile.policy.eta import estimates
from evalfleet.reconcile.policy.gather import Question, World, ask
from evalfleet.reconcile.policy.jobs import FINISH_SECONDS, live_workers, slowdown, surplus_workers, takes_part
from evalfleet.reconcile.policy.seen import PoolsSeen
from evalfleet.reconcile.steps import Action, Create, Delete
from evalfleet_scaling.model import FleetDecision, FleetSnapshot, JobDecision

EDIT_SECONDS = 300.0
"""From a refusal to the edit that it advises; until then the named deadline has to stay feasible."""
Decide = Callable[[FleetSnapshot], FleetDecision]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows for the policy's jobs.

    Attributes:
        actions: worker Jobs to delete and to create.
        verdicts: what each job is told, by uid.
        etas: when each job will be done, by uid, where it can be foreseen.
        decision: the decision itself; its memory belongs into the next world.
        seen: what the pools showed, for the next world.
    """

    actions: tuple[Action, ...]
    verdicts: Mapping[str, FleetVerdict]
    etas: Mapping[str, Eta]
    decision: FleetDecision
    seen: PoolsSeen


def reconcile(world: World, decide: Decide) -> Outcome:
    """Decide for all jobs of the policy together."""
    question = ask(world)
    decision = decide(question.snapshot)
    by_uid = {member.job_name: member for member in decision.jobs}
    lost = _failed_launches(world, question) | _of_no_pool(world)
    actions: list[Action] = []
    for uid, job in world.jobs.items():
        actions += _removals(job, by_uid.get(uid), lost)
    for uid, member in by_uid.items():
        actions += _creations(world, world.jobs[uid], member)
    measured = frozenset(uid for uid in by_uid if slowdown(world.jobs[uid]) != 1.0)
    refused = {uid: FleetVerdict(False, 0, "InvalidSpec", message) for uid, message in question.refused.items()}
    return Outcome(
        actions=tuple(actions),
        verdicts={uid: _verdict(member) for uid, member in by_uid.items()} | refused,
        etas=estimates(question.snapshot, decision, measured, world.now),
        decision=decision,
        seen=question.seen,
    )


def _verdict(member: JobDecision) -> FleetVerdict:
    message = member.message
    if not member.admitted and member.earliest_feasible_deadline_seconds is not None:
        earliest = datetime.fromtimestamp(member.earliest_feasible_deadline_seconds, UTC)
        named = stamp(earliest + timedelta(seconds=FINISH_SECONDS + EDIT_SECONDS))
        message += f": set sla.deadlineTime to {named} or later (that leaves five minutes for the edit)"
    return FleetVerdict(member.admitted, member.desired_workers, member.reason, message, member.best_effort)


def _failed_launches(world: World, question: Question) -> frozenset[str]:
    """Spot workers that no node came for: they hold nothing and cost nothing, but nobody should count on them."""
    spot = {pool.name for pool in world.pools if pool.capacity_type == "Spot"}
    sightings = question.seen.workers
    return frozenset(name for name in question.seen.overdue if sightings[name].pool in spot)


def _of_no_pool(world: World) -> frozenset[str]:
    """Workers of a pool that the policy has no more: no limit and no decision counts them."""
    names = {pool.name for pool in world.pools}
    return frozenset(w.child.name for job in world.jobs.values() for w in job.workers if w.pool not in names)


def _removals(job: JobWorld, member: JobDecision | None, lost: frozenset[str]) -> list[Action]:
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
