"""The status of a ScalingPolicy, from the world and what was decided. Pure."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from evalfleet.reconcile import conditions as cond
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import Condition, false, true
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.policy.decide import Outcome
from evalfleet.reconcile.policy.gather import World
from evalfleet.reconcile.policy.jobs import live_workers
from evalfleet.reconcile.steps import Create
from evalfleet_scaling.spend import SpendLedger, Total
from evalfleet_scaling.spot.history import PoolHistory
from evalfleet_scaling.spot.statistics import startup_quantile

CENTS = 4
"""Decimal places of money in a status."""


def policy_status(world: World, before: Mapping[str, Any], generation: int, outcome: Outcome) -> dict[str, Any]:
    """The new status; `lastDecision` moves only when the decision changes something."""
    live = [worker for job in world.jobs.values() for worker in live_workers(job)]
    ready = [worker for worker in live if worker.child.phase is Phase.RUNNING]
    by_pool, ready_by_pool = Counter(w.pool for w in live), Counter(w.pool for w in ready)
    spot = sum(worker.capacity_type == "Spot" for worker in live)
    status = {
        **before,
        "conditions": cond.merge(
            before.get("conditions") or [], _conditions(world, outcome), generation, stamp(world.now)
        ),
        "observedGeneration": generation,
        "jobs": _jobs(world),
        "workers": {"desired": len(live), "ready": len(ready), "spot": spot, "onDemand": len(live) - spot},
        "pools": [
            {"name": pool.name, "workers": by_pool[pool.name], "ready": ready_by_pool[pool.name]}
            | _observed(outcome.seen.histories.get(pool.name))
            for pool in world.pools
        ],
        "cost": policy_cost(world.ledger, world.now),
    }
    if outcome.actions:
        status["lastDecision"] = {"time": stamp(world.now), **_decision_words(outcome)}
    return status


def refused_status(
    before: Mapping[str, Any], generation: int, problem: tuple[str, str], now: datetime
) -> dict[str, Any]:
    """The status of a policy for which nothing is decided, by reason and sentence: what runs is left alone."""
    words = (problem[0], f"nothing is decided until this is mended: {problem[1]}")
    stated = (false("Ready", *words), false("ScalingActive", *words), true("Stalled", *words))
    conditions = cond.merge(before.get("conditions") or [], stated, generation, stamp(now))
    return {**before, "conditions": conditions, "observedGeneration": generation}


def policy_cost(ledger: SpendLedger, now: datetime) -> dict[str, str]:
    """Money of the running UTC hour, day and month, and the month's saving."""
    hour, day, month = (money(amount) for amount in ledger.spent(now.timestamp()))
    saved = ledger.months.get(now.astimezone(UTC).strftime("%Y-%m"), Total()).saving
    return {"spentHour": hour, "spentDay": day, "spentMonth": month, "savedVersusOnDemand": money(saved)}


def money(amount: Any) -> str:
    """An exact amount as the status shows it."""
    return f"{amount:.{CENTS}f}"


def _decision_words(outcome: Outcome) -> dict[str, str]:
    starts = sum(isinstance(action, Create) for action in outcome.actions)
    stops = len(outcome.actions) - starts
    counts = f"{starts} worker{'' if starts == 1 else 's'} to start, {stops} to stop"
    return {"reason": "Scaled", "message": f"{counts}: {outcome.decision.message}"[:1024]}


def _observed(history: PoolHistory | None) -> dict[str, Any]:
    if history is None:
        return {}
    shown: dict[str, Any] = {"interruptions": sum(life.preempted for life in history.lives)}
    if history.startups_seconds:
        shown["startupSecondsP50"] = round(startup_quantile(history.startups_seconds, 0.5, 0.0))
    if history.cool_down_until_seconds is not None:
        shown["coolDownUntil"] = stamp(datetime.fromtimestamp(history.cool_down_until_seconds, UTC))
    return shown


def _jobs(world: World) -> dict[str, int]:
    open_jobs = [job for job in world.jobs.values() if not job.terminal]
    running = [job for job in open_jobs if any(w.child.phase is Phase.RUNNING for w in job.workers)]
    admitted = [job for job in open_jobs if job.is_true("Admitted")]
    return {"queued": len(open_jobs) - len(admitted), "admitted": len(admitted), "running": len(running)}


def _conditions(world: World, outcome: Outcome) -> tuple[Condition, ...]:
    waiting = sum(not verdict.admitted for verdict in outcome.verdicts.values())
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
        true("AbleToScale", "Able", "workers can be created and deleted"),
        limited,
    )
