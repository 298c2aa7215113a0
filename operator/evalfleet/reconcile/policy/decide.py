"""The table of contents of a policy's reconciliation: gather, decide for all jobs together, act, report. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from evalfleet import limits
from evalfleet.manifests.accelerators import computes
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.state import Admission, JobState
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.act import worker_actions
from evalfleet.reconcile.policy.eta import estimates
from evalfleet.reconcile.policy.gather import Question, ask, startups_of
from evalfleet.reconcile.policy.jobs import live_workers, slowdown
from evalfleet.reconcile.policy.outcome import DecideFleet, Outcome, PolicyDecision
from evalfleet.reconcile.policy.report import refused, stated
from evalfleet.reconcile.policy.setbacks import Setbacks, reason_of
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.model import JobDecision, WorkerState


def decide(state: PolicyState, decide_fleet: DecideFleet) -> PolicyDecision:
    """What follows for a policy and its jobs; where something cannot be read, what runs is left alone."""
    return stated(state, scale(state, decide_fleet)) if state.trouble is None else refused(state, *state.trouble)


def scale(state: PolicyState, decide_fleet: DecideFleet) -> Outcome:
    """Decide for all jobs of the policy together."""
    question = ask(state)
    decision = decide_fleet(question.snapshot)
    by_uid = {member.job_name: member for member in decision.jobs}
    measured = frozenset(uid for uid in by_uid if slowdown(state.jobs[uid]) != 1.0)
    admissions = {uid: _admission(member) for uid, member in by_uid.items()}
    admissions |= {uid: Admission(False, 0, "InvalidSpec", message) for uid, message in question.refused.items()}
    admissions |= {uid: _held(state, state.jobs[uid]) for uid in question.held}
    etas = estimates(question.snapshot, decision, measured, state.now)
    return Outcome(
        actions=worker_actions(state, question, decision),
        admissions={
            uid: _with_setback(admission, question.setbacks, uid, state) for uid, admission in admissions.items()
        },
        etas={uid: eta for uid, eta in etas.items() if can_be_foreseen(state.jobs[uid], question)},
        decision=decision,
        pool_histories=question.pool_histories,
        setbacks=question.setbacks,
    )


def can_be_foreseen(job: JobState, question: Question) -> bool:
    """Whether an end can be named: not while all that a job has is late, or while it has nothing and is held back."""
    workers = [worker for worker in question.snapshot.workers if worker.job_name == job.identity.uid]
    if any(worker.state is WorkerState.READY for worker in workers):
        return True
    if question.setbacks.newest(job.identity.uid) is not None:
        return False
    startups = startups_of(question.snapshot)
    return not workers or any(worker.age_seconds < startups[worker.pool_name] for worker in workers)


def _with_setback(admission: Admission, setbacks: Setbacks, uid: str, state: PolicyState) -> Admission:
    """The admission with what keeps going wrong, as long as no worker of the job runs."""
    setback = setbacks.newest(uid)
    kept = (worker.child for worker in live_workers(state.jobs[uid]) if worker.child.name not in setbacks.lost)
    if setback is None or any(child.phase is Phase.RUNNING for child in kept):
        return admission
    stalled = setback.advice is not None or state.now.timestamp() - setback.first_seconds > limits.STALLED_SECONDS
    return replace(admission, setback=reason_of(setback), stalled=stalled)


def _held(state: PolicyState, job: JobState) -> Admission:
    """A job that has no pool to try now: for a while, or because the policy has none that can compute its run."""
    if any(computes(pool, job.device_kind) for pool in state.pools):
        return Admission(True, 0, "Retrying", "no worker for now")
    message = f"this run is computed on GPUs ({job.device_kind}) and no pool of the policy has any: add one"
    return Admission(False, 0, "NoPoolAllowed", message)


def _admission(member: JobDecision) -> Admission:
    message = member.message
    if not member.admitted and member.earliest_feasible_deadline_seconds is not None:
        earliest = datetime.fromtimestamp(member.earliest_feasible_deadline_seconds, UTC)
        named = stamp(earliest + timedelta(seconds=limits.FINISH_SECONDS + limits.EDIT_SECONDS))
        message += f": set sla.deadlineTime to {named} or later (that leaves five minutes for the edit)"
    return Admission(member.admitted, member.desired_workers, member.reason, message, member.best_effort)
