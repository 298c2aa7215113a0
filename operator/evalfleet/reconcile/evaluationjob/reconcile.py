"""The table of contents of an EvaluationJob's reconciliation."""

from evalfleet.reconcile.evaluationjob.accept import accept
from evalfleet.reconcile.evaluationjob.admit import admit, suspend
from evalfleet.reconcile.evaluationjob.cleanup import active_deadline, ended
from evalfleet.reconcile.evaluationjob.finish import finish
from evalfleet.reconcile.evaluationjob.plan import plan
from evalfleet.reconcile.evaluationjob.run import run
from evalfleet.reconcile.evaluationjob.world import World
from evalfleet.reconcile.steps import Step, run_steps

STEPS = (ended, accept, active_deadline, suspend, plan, admit, run, finish)


def decide(world: World) -> Step:
    """What follows for one EvaluationJob from everything observed; nothing for one that is being deleted."""
    return Step(halt=True) if world.deleting else run_steps(world, STEPS)
