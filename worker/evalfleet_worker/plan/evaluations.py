"""Planning each evaluation of a run: one that cannot be scored as it is written is refused alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from evalfleet_worker.harness.interface import HarnessContext, HarnessPlan
from evalfleet_worker.harness.registry import harness_of
from evalfleet_worker.protocol import ErrorReport, EvaluationFailure, EvaluationSpec, FailureReason, RunError, RunSpec

OF_ITS_OWN = frozenset({FailureReason.INVALID_TASK, FailureReason.UNSUPPORTED_TASK, FailureReason.DATASET_UNREADABLE})
"""Reasons that lie in one evaluation and say nothing about the others; any other ends the run."""


@dataclass(frozen=True, slots=True)
class PlannedEvaluations:
    """The plans of the evaluations that can be scored, and why the others cannot, both by name."""

    plans: Mapping[str, HarnessPlan]
    refused: Mapping[str, ErrorReport]

    @property
    def failures(self) -> tuple[EvaluationFailure, ...]:
        """The refusals as the report of the plan has them."""
        return tuple(EvaluationFailure(name, report.reason, report.message) for name, report in self.refused.items())

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is not scored, and what is scored, but perhaps not as meant."""
        said = [f"{name}: {warning}" for name, plan in self.plans.items() for warning in plan.warnings]
        return (*(report.message for report in self.refused.values()), *said)


def plan_evaluations(run: RunSpec, context: HarnessContext) -> PlannedEvaluations:
    """Plan every evaluation; the good ones of a job are not lost to a mistake beside them.

    Raises:
        RunError: no evaluation is left, or the reason is not one of a single evaluation.
    """
    plans: dict[str, HarnessPlan] = {}
    refused: dict[str, ErrorReport] = {}
    for evaluation in run.evaluations:
        try:
            plans[evaluation.name] = _plan(evaluation, context)
        except RunError as error:
            if error.reason not in OF_ITS_OWN or len(run.evaluations) == 1:
                raise RunError(error.reason, _named(evaluation.name, error.message)) from error
            words = error.message.removeprefix(f"{evaluation.name}: ")
            refused[evaluation.name] = ErrorReport(error.reason, f"{evaluation.name}: {error.reason}: {words}")
    if not plans:
        reports = list(refused.values())
        raise RunError(reports[0].reason, "; ".join(report.message for report in reports))
    return PlannedEvaluations(plans, refused)


def _plan(evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
    context.progress(f"{evaluation.name}: loading")
    plan = harness_of(evaluation).plan(evaluation, context)
    context.progress(f"{evaluation.name}: {plan.samples} samples, {len(plan.requests)} requests")
    return plan


def _named(evaluation: str, message: str) -> str:
    return message if message.startswith(f"{evaluation}: ") else f"{evaluation}: {message}"
