"""The table of contents of an EvaluationJob's reconciliation."""

from collections.abc import Mapping
from typing import Any

from evalfleet.reconcile.decision import Decision
from evalfleet.reconcile.in_words import with_state
from evalfleet.reconcile.job.accept import accept
from evalfleet.reconcile.job.admit import admit, suspend
from evalfleet.reconcile.job.attempts import supersede
from evalfleet.reconcile.job.cleanup import active_deadline, deleting, ended
from evalfleet.reconcile.job.finish import finish
from evalfleet.reconcile.job.freeze import freeze
from evalfleet.reconcile.job.known import known
from evalfleet.reconcile.job.on_time import on_time
from evalfleet.reconcile.job.plan import plan
from evalfleet.reconcile.job.run import run
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.steps import Owned, run_steps

STEPS = (known, deleting, on_time, supersede, accept, freeze, active_deadline, suspend, plan, admit, run, finish)
OWNED: Owned[JobState] = {
    accept: ("Accepted",),
    plan: ("Planned",),
    admit: ("Admitted",),
    run: ("WorkersReady", "ProgressKnown"),
    finish: ("Succeeded",),
}
"""Beside these: OnTime of its own step, and Ready and Reconciling, which every step that halts states for all."""


def decide(state: JobState) -> Decision:
    """What follows for one EvaluationJob from everything observed."""
    decision = run_steps(state, (ended,), {}) if state.terminal else run_steps(state, STEPS, OWNED)
    return with_state(decision, percent_done({**state.status, **decision.status}))


def percent_done(status: Mapping[str, Any]) -> int:
    """The share of units that are committed, as a status tells it."""
    return int((status.get("progress") or {}).get("percent") or 0)
