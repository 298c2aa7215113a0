"""What is said about a decision for a policy: conditions, status, and the refusals of the API server. Pure."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import NOT_REACHED, Condition, false, true, unknown
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.in_words import with_state
from evalfleet.reconcile.job.state import Admission
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.act import stopped_workers
from evalfleet.reconcile.policy.jobs import live_workers
from evalfleet.reconcile.policy.outcome import Outcome, PolicyDecision
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.spend import SpendLedger, Total
from evalfleet_scaling.spot.history import PoolHistory
from evalfleet_scaling.spot.statistics import startup_quantile

Refusal = tuple[str, str]
"""Reason and message of a worker that the API server refuses."""
CENTS = 4
"""Decimal places of money in a status."""


def stated(state: PolicyState, outcome: Outcome) -> PolicyDecision:
    """An outcome as a decision; `lastDecision` moves only when it changes something."""
    decision = PolicyDecision(
        conditions=_conditions(outcome),
        status=_status(state, outcome),
        actions=outcome.actions,
        requeue_seconds=limits.POLICY_TICK_SECONDS if _something_moves(state, outcome) else None,
        admissions=outcome.admissions,
        outcome=outcome,
    )
    return with_state(decision)


def _something_moves(state: PolicyState, outcome: Outcome) -> bool:
    """Whether time alone changes what is to be done: a worker may wait for its node when the grace of its run ends."""
    return bool(outcome.admissions or state.ledger.open or any(live_workers(job) for job in state.jobs.values()))


def refused(state: PolicyState, reason: str, problem: str) -> PolicyDecision:
    """Nothing is decided: what runs is left alone unless it is to stop, jobs without an admission get the reason."""
    why = (reason, f"nothing is decided until this is mended: {problem}")
    unreached = (unknown(kind, NOT_REACHED, f"{reason}: {why[1]}") for kind in ("AbleToScale", "ScalingLimited"))
    decision = PolicyDecision(
        conditions=(false("Ready", *why), false("ScalingActive", *why), *unreached, true("Stalled", *why)),
        status={"observedGeneration": state.generation},
        actions=stopped_workers(state),
        requeue_seconds=limits.UNREADABLE_SECONDS,
        admissions={
            uid: Admission(False, 0, reason, problem) for uid, job in state.jobs.items() if job.admission is None
        },
    )
    return with_state(decision)


def unwritable(state: PolicyState, decision: PolicyDecision, problem: str) -> PolicyDecision:
    """The decision while what is spent cannot be written: nothing is started, what runs goes on and is counted."""
    outcome = decision.outcome
    if outcome is None:
        return decision
    why = ("LedgerUnwritable", f"no worker is started before what is spent can be written: {problem}")
    stops = tuple(action for action in outcome.actions if not isinstance(action, Create))
    held = {uid: replace(one, admitted=False, reason=why[0], message=why[1]) for uid, one in outcome.admissions.items()}
    idle = {uid: one for uid, one in held.items() if not state.jobs[uid].workers}
    restated = stated(state, replace(outcome, actions=stops, admissions={**outcome.admissions, **idle}))
    stalled = (false("Ready", *why), false("ScalingActive", *why), true("Stalled", *why))
    conditions = {condition.type: condition for condition in (*restated.conditions, *stalled)}
    told = replace(restated, conditions=tuple(conditions.values()), requeue_seconds=limits.REFUSED_SECONDS)
    return with_state(told)


def with_refusals(state: PolicyState, decision: PolicyDecision, refusals: Mapping[str, Refusal]) -> PolicyDecision:
    """The decision when the API server refuses workers of some runs: a job without any worker gives its reason."""
    outcome = decision.outcome
    if outcome is None or not refusals:
        return decision
    admissions = dict(outcome.admissions)
    for uid in admissions.keys() & refusals.keys():
        if not state.jobs[uid].workers:
            reason, message = refusals[uid]
            admissions[uid] = replace(admissions[uid], admitted=False, reason=reason, message=message)
    refused_words = next(iter(refusals.values()))
    restated = stated(state, replace(outcome, admissions=admissions, refused=refused_words))
    wait = None if restated.requeue_seconds is None else limits.REFUSED_SECONDS
    return replace(restated, requeue_seconds=wait)


def _status(state: PolicyState, outcome: Outcome) -> dict[str, Any]:
    live = [worker for job in state.jobs.values() for worker in live_workers(job)]
    ready = [worker for worker in live if worker.child.phase is Phase.RUNNING]
    by_pool, ready_by_pool = Counter(w.pool for w in live), Counter(w.pool for w in ready)
    spot = sum(worker.capacity_type == "Spot" for worker in live)
    status = {
        "observedGeneration": state.generation,
        "jobs": _jobs(state),
        "workers": {"desired": len(live), "ready": len(ready), "spot": spot, "onDemand": len(live) - spot},
        "pools": [
            {"name": pool.name, "workers": by_pool[pool.name], "ready": ready_by_pool[pool.name]}
            | _observed(outcome.pool_histories.histories.get(pool.name))
            for pool in state.pools
        ],
        "cost": policy_cost(state.ledger, state.now),
    }
    if outcome.actions:
        status["lastDecision"] = {"time": stamp(state.now), **_last_decision(outcome)}
    return status


def policy_cost(ledger: SpendLedger, now: datetime) -> dict[str, str]:
    """Money of the running UTC hour, day and month, and the month's saving."""
    hour, day, month = (money(amount) for amount in ledger.spent(now.timestamp()))
    saved = ledger.months.get(now.astimezone(UTC).strftime("%Y-%m"), Total()).saving
    return {"spentHour": hour, "spentDay": day, "spentMonth": month, "savedVersusOnDemand": money(saved)}


def money(amount: Any) -> str:
    """An exact amount as the status shows it."""
    return f"{amount:.{CENTS}f}"


def _last_decision(outcome: Outcome) -> dict[str, str]:
    starts = sum(isinstance(action, Create) for action in outcome.actions)
    stops = len(outcome.actions) - starts
    counts = f"{starts} worker{'' if starts == 1 else 's'} to start, {stops} to stop"
    return {"reason": "Scaled", "message": f"{counts}: {outcome.decision.message}"[: limits.STATUS_WORD]}


def _observed(history: PoolHistory | None) -> dict[str, Any]:
    if history is None:
        return {}
    shown: dict[str, Any] = {"interruptions": sum(life.preempted for life in history.lives)}
    if history.startups_seconds:
        shown["startupSecondsP50"] = round(startup_quantile(history.startups_seconds, 0.5, 0.0))
    if history.cool_down_until_seconds is not None:
        shown["coolDownUntil"] = stamp(datetime.fromtimestamp(history.cool_down_until_seconds, UTC))
    return shown


def _jobs(state: PolicyState) -> dict[str, int]:
    open_jobs = [job for job in state.jobs.values() if not job.terminal]
    running = [job for job in open_jobs if any(w.child.phase is Phase.RUNNING for w in job.workers)]
    admitted = [job for job in open_jobs if job.is_true("Admitted")]
    return {"queued": len(open_jobs) - len(admitted), "admitted": len(admitted), "running": len(running)}


def _conditions(outcome: Outcome) -> tuple[Condition, ...]:
    able = true("AbleToScale", "Able", "workers can be created and deleted")
    if outcome.refused is not None:
        able = false("AbleToScale", *outcome.refused)
    waiting = sum(not admission.admitted for admission in outcome.admissions.values())
    hits = "; ".join(hit.message for hit in outcome.decision.limits_hit)
    if hits:
        limited = true("ScalingLimited", "LimitReached", hits)
    elif waiting:
        limited = true("ScalingLimited", "JobsWait", f"{waiting} jobs are not admitted")
    else:
        limited = false("ScalingLimited", "WithinLimits", "no limit of the policy holds workers back")
    return (
        true("Ready", "Ready", "the policy is in use"),
        true("ScalingActive", "Active", "workers follow the work"),
        able,
        limited,
    )
