"""Step 5: merge, metrics and intervals, in a one-pod CPU Job that is idempotent and may be recreated at any time."""

from typing import Any

from evalfleet import limits
from evalfleet.manifests.jobs import finish_job
from evalfleet.reconcile.children import HOPELESS, Phase
from evalfleet.reconcile.conditions import false, find
from evalfleet.reconcile.decision import Create, Delete
from evalfleet.reconcile.job.attempts import (
    Attempt,
    again,
    fails_always,
    fault,
    finish_attempt,
    says_nothing,
    stalls,
    told,
)
from evalfleet.reconcile.job.plan import failure_reason, other_protocol, unreadable
from evalfleet.reconcile.job.pods import pod_shape, waiting_message, whereabouts
from evalfleet.reconcile.job.state import JobState, fold_progress, removal
from evalfleet.reconcile.job.terminal import failed, held, succeeded, waiting
from evalfleet.reconcile.redact import redacted
from evalfleet.reconcile.steps import Step
from evalfleet_worker.protocol import FinishReport, Result, RunOutcome, loads

FINISHING = "all units are committed; metrics and intervals are computed on a CPU"
UNDEFINED = "NaN"


def finish(state: JobState) -> Step:
    """State Succeeded: create the finish Job, wait for it, or read its report."""
    attempt = finish_attempt(state)
    why = fault(attempt, state.now)
    if why is not None:
        return _again(state, attempt, why.reason, f"the finish pod: {why.message}")
    match state.finish.phase:
        case Phase.MISSING:
            return _again(state, attempt, "Finishing", FINISHING) if attempt.number else _start(state, attempt)
        case Phase.SUCCEEDED:
            return _finished(state, attempt)
        case Phase.FAILED:
            return _failed(state)
        case Phase.WAITING if state.finish.reason in HOPELESS or fails_always(attempt, state.now):
            return _failed(state)  # the next attempt would need as much memory, or fail as well
        case Phase.WAITING:
            message = (
                f"the finish does not run yet ({whereabouts(state.finish)}): {waiting_message(state, state.finish)}"
            )
            words = held(state.finish.reason, message, stalled=stalls(state.finish, state.now))
            return Step(words, halt=True, requeue_seconds=limits.RUNNING_SECONDS)
        case _:
            return Step(waiting("Finishing", FINISHING), halt=True)


def _start(state: JobState, attempt: Attempt, reason: str = "Finishing", message: str = FINISHING) -> Step:
    body = finish_job(state.identity, pod_shape(state), attempt.number + 1, attempt.node)
    return Step(waiting(reason, message), actions=(*_release(state), Create(body)), halt=True)


def _release(state: JobState) -> tuple[Delete, ...]:
    """Jobs that have done their part make room where a quota on Jobs leaves none for the finish."""
    ready = find(state.status.get("conditions") or [], "Ready") or {}
    if ready.get("reason") != "WaitingForQuota" or fold_progress(state).units_done < state.planned_units:
        return ()
    done = (state.plan, *(worker.child for worker in state.workers))
    return tuple(removal(state.identity, child) for child in done if child.phase is Phase.SUCCEEDED)


def _again(state: JobState, attempt: Attempt, reason: str, message: str) -> Step:
    """Another attempt, as soon as it is due: a scored run is never lost to a pod."""
    said, seconds = again(attempt, message, state.now), attempt.wait_seconds(state.now)
    if seconds == 0:
        return _start(state, attempt, reason, said)
    return Step(told(attempt, reason, said), halt=True, requeue_seconds=seconds)


def _failed(state: JobState) -> Step:
    child = state.finish
    return failed(*failure_reason(child.termination, child.reason, child.message), state)


def _finished(state: JobState, attempt: Attempt) -> Step:
    other = other_protocol(state.finish)
    if other is not None:
        return Step(waiting(*other), halt=True)
    try:
        report = loads(FinishReport, state.finish.termination or "")
    except ValueError as error:
        if says_nothing(attempt):
            return failed(*unreadable("finish", error), state)
        message = "the finish report was lost with its pod: finishing again repeats it"
        return _again(state, attempt, "Finishing", message)
    if report.outcome == RunOutcome.INCOMPLETE:
        read = removal(state.identity, state.finish)
        is_doubtful = report.units_left > state.planned_units or attempt.number > 1
        return _incomplete(state, report.units_left, (read, *_reset(state)), plan_again=is_doubtful)
    total = state.planned_units
    reported = report_status(report)
    time = {**(state.status.get("time") or {}), **reported["time"]}
    progress = {"percent": 100, "unitsTotal": total, "unitsDone": total}
    status = {**reported, "time": time, "progress": progress}
    if report.outcome != RunOutcome.COMPLETE:
        message = redacted("; ".join(report.messages)) or f"{report.samples.failed} samples failed"
        return failed(report.outcome, message, state, status)
    return succeeded(f"{report.samples.scored} of {report.samples.planned} samples scored", state, status)


def _incomplete(state: JobState, left: int, actions: tuple[Delete, ...], *, plan_again: bool) -> Step:
    """Workers continue, from what the store holds: it knows better than a status that claims more is done, or planned.

    A plan smaller than what is left is not the plan of this run, nor is one by which everything was done twice
    (`plan_again`): planning again adopts the one in the store.
    """
    message = f"{left} units are still missing: workers continue"
    total = state.planned_units
    if plan_again:
        lost = false("Planned", "PlanReportLost", f"{left} units are missing of {total}: the plan is read again")
        forgotten = {"plan": None, "progress": None}
        return Step(
            (lost, *waiting("Planning", message)),
            forgotten,
            actions,
            halt=True,
            requeue_seconds=limits.INCOMPLETE_SECONDS,
        )
    done = total - left
    progress = {"percent": 100 * done // total if total else 100, "unitsTotal": total, "unitsDone": done}
    return Step(
        waiting("Scoring", message),
        {"progress": progress},
        actions,
        halt=True,
        requeue_seconds=limits.INCOMPLETE_SECONDS,
    )


def _reset(state: JobState) -> tuple[Delete, ...]:
    """Workers that said that nothing is left are removed, so that the Fleet starts others."""
    done = (worker.child for worker in state.workers if worker.child.phase is Phase.SUCCEEDED)
    return tuple(removal(state.identity, child) for child in done)


def report_status(report: FinishReport) -> dict[str, Any]:
    """The finish report as status shows it."""
    return {
        "results": [_result(result) for result in report.results[: limits.RESULTS]],
        "resultsTruncated": (report.truncated + max(0, len(report.results) - limits.RESULTS)) or None,
        "resultsUri": report.results_uri[: limits.STATUS_WORD],
        "samples": {
            "planned": report.samples.planned,
            "scored": report.samples.scored,
            "executedTwice": report.samples.executed_twice,
            "mismatched": report.samples.mismatched,
        },
        "time": {
            "modelLoadSeconds": round(report.time.model_load_seconds),
            "scoringSeconds": round(report.time.scoring_seconds),
            "wastedGpuSeconds": round(report.time.wasted_seconds),
        },
    }


def _result(result: Result) -> dict[str, Any]:
    row: dict[str, Any] = {
        "evaluation": result.evaluation,
        "metric": result.metric[: limits.STATUS_WORD],
        "value": UNDEFINED if result.value is None else f"{result.value:.6g}",
        "n": result.n,
    }
    words = (("task", result.task), ("filter", result.filter), ("method", result.method))
    row |= {key: value[: limits.STATUS_WORD] for key, value in words if value}
    for key, value in (("standardError", result.standard_error), ("low", result.low), ("high", result.high)):
        if value is not None:
            row[key] = f"{value:.6g}"
    return row
