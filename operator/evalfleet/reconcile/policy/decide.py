"""The table of contents of a policy's reconciliation: gather, decide for all jobs together, act, report. Pure."""

from datetime import UTC, datetime, timedelta

from evalfleet import limits
from evalfleet.reconcile.job.state import Admission
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.act import worker_actions
from evalfleet.reconcile.policy.eta import estimates
from evalfleet.reconcile.policy.gather import ask
from evalfleet.reconcile.policy.jobs import slowdown
from evalfleet.reconcile.policy.outcome import DecideFleet, Outcome, PolicyDecision
from evalfleet.reconcile.policy.report import refused, stated
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.model import JobDecision


def decide(state: PolicyState, decide_fleet: DecideFleet) -> PolicyDecision:
    """What follows for a policy and its jobs; where something cannot be read, what runs is left alone."""
    return stated(state, scale(state, decide_fleet)) if state.trouble is None else refused(state, *state.trouble)


def scale(state: PolicyState, decide_fleet: DecideFleet) -> Outcome:
    """Decide for all jobs of the policy together."""
    question = ask(state)
    decision = decide_fleet(question.snapshot)
    by_uid = {member.job_name: member for member in decision.jobs}
    measured = frozenset(uid for uid in by_uid if slowdown(state.jobs[uid]) != 1.0)
    impossible = {uid: Admission(False, 0, "InvalidSpec", message) for uid, message in question.refused.items()}
    return Outcome(
        actions=worker_actions(state, question, decision),
        admissions={uid: _admission(member) for uid, member in by_uid.items()} | impossible,
        etas=estimates(question.snapshot, decision, measured, state.now),
        decision=decision,
        pool_histories=question.pool_histories,
    )


def _admission(member: JobDecision) -> Admission:
    message = member.message
    if not member.admitted and member.earliest_feasible_deadline_seconds is not None:
        earliest = datetime.fromtimestamp(member.earliest_feasible_deadline_seconds, UTC)
        named = stamp(earliest + timedelta(seconds=limits.FINISH_SECONDS + limits.EDIT_SECONDS))
        message += f": set sla.deadlineTime to {named} or later (that leaves five minutes for the edit)"
    return Admission(member.admitted, member.desired_workers, member.reason, message, member.best_effort)
