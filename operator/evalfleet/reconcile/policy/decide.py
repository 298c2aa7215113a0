"""The table of contents of a policy's reconciliation: gather, decide for all jobs together, act, report. Pure."""

from datetime import UTC, datetime, timedelta

from evalfleet import limits
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.job.world import FleetVerdict
from evalfleet.reconcile.policy.act import worker_actions
from evalfleet.reconcile.policy.eta import estimates
from evalfleet.reconcile.policy.gather import ask
from evalfleet.reconcile.policy.jobs import slowdown
from evalfleet.reconcile.policy.outcome import DecideFleet, Outcome, PolicyDecision
from evalfleet.reconcile.policy.report import refused, stated
from evalfleet.reconcile.policy.world import World
from evalfleet_scaling.model import JobDecision


def decide(world: World, decide_fleet: DecideFleet) -> PolicyDecision:
    """What follows for a policy and its jobs; where something cannot be read, what runs is left alone."""
    return stated(world, scale(world, decide_fleet)) if world.trouble is None else refused(world, *world.trouble)


def scale(world: World, decide_fleet: DecideFleet) -> Outcome:
    """Decide for all jobs of the policy together."""
    question = ask(world)
    decision = decide_fleet(question.snapshot)
    by_uid = {member.job_name: member for member in decision.jobs}
    measured = frozenset(uid for uid in by_uid if slowdown(world.jobs[uid]) != 1.0)
    impossible = {uid: FleetVerdict(False, 0, "InvalidSpec", message) for uid, message in question.refused.items()}
    return Outcome(
        actions=worker_actions(world, question, decision),
        verdicts={uid: _verdict(member) for uid, member in by_uid.items()} | impossible,
        etas=estimates(question.snapshot, decision, measured, world.now),
        decision=decision,
        seen=question.seen,
    )


def _verdict(member: JobDecision) -> FleetVerdict:
    message = member.message
    if not member.admitted and member.earliest_feasible_deadline_seconds is not None:
        earliest = datetime.fromtimestamp(member.earliest_feasible_deadline_seconds, UTC)
        named = stamp(earliest + timedelta(seconds=limits.FINISH_SECONDS + limits.EDIT_SECONDS))
        message += f": set sla.deadlineTime to {named} or later (that leaves five minutes for the edit)"
    return FleetVerdict(member.admitted, member.desired_workers, member.reason, message, member.best_effort)
