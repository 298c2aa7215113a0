"""The table of contents of an EvaluationJob's reconciliation."""

from evalfleet.reconcile.decision import Decision
from evalfleet.reconcile.job.accept import accept
from evalfleet.reconcile.job.admit import admit, suspend
from evalfleet.reconcile.job.attempts import supersede
from evalfleet.reconcile.job.cleanup import active_deadline, ended
from evalfleet.reconcile.job.finish import finish
from evalfleet.reconcile.job.plan import plan
from evalfleet.reconcile.job.run import run
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.steps import run_steps

STEPS = (ended, supersede, accept, active_deadline, suspend, plan, admit, run, finish)


def decide(state: JobState) -> Decision:
    """What follows for one EvaluationJob from everything observed; nothing for one that is being deleted."""
    return Decision() if state.deleting else run_steps(state, STEPS)
