"""Step 0: what is known whatever the other steps find: counts, money, the plan, and a promise that is being kept.

Stated first, so that a job that is refused, suspended or being deleted shows no worker, rate or end of before.
"""

from collections.abc import Mapping
from typing import Any

from evalfleet.reconcile.conditions import Condition, restated, true
from evalfleet.reconcile.job.cost import cost_status
from evalfleet.reconcile.job.counts import worker_counts
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.job.terminal import ESTIMATES
from evalfleet.reconcile.steps import Step


def known(state: JobState) -> Step:
    """State what is observed or remembered; an estimate is for the step that has one."""
    status: dict[str, Any] = {"observedGeneration": state.generation, **cost_status(state)}
    if state.workers or state.status.get("workers"):
        status["workers"] = {**worker_counts(state), "desired": 0}
    if state.status.get("progress"):
        status["progress"] = dict.fromkeys((*ESTIMATES, "requestsPerSecond"))
    return Step((*_plan(state), *_promise(state)), status)


def planned_condition(plan: Mapping[str, Any]) -> Condition:
    """The size of a run in words."""
    size = f"{plan.get('samples', 0)} samples, {plan.get('requests', 0)} requests, {plan.get('tokens', 0)} tokens"
    message = f"{size} in {plan.get('units', 0)} units; about {plan.get('gpuSeconds', 0)} s of one worker"
    return true("Planned", "Planned" if plan.get("units") else "AllCached", message)


def _plan(state: JobState) -> tuple[Condition, ...]:
    return (planned_condition(state.status["plan"]),) if state.is_planned else ()


def _promise(state: JobState) -> tuple[Condition, ...]:
    """An admission stands while workers run on it, also where the step that decides about it has no turn."""
    suspended = state.job is not None and state.job.spec.suspend
    live = any(not worker.deleting for worker in state.workers)
    if not live or suspended or state.deleting or not state.is_true("Admitted"):
        return ()
    return restated(state.status["conditions"], "Admitted")
