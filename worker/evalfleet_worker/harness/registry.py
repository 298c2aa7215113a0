"""Which harness an evaluation belongs to; each is imported when it is needed."""

from evalfleet_worker.harness.interface import Harness
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, RunError


def harness_of(evaluation: EvaluationSpec) -> Harness:
    """The harness of an evaluation.

    Raises:
        RunError: INVALID_TASK unless exactly one harness member is set.
    """
    members = (evaluation.lm_eval, evaluation.embedding, evaluation.python)
    if sum(member is not None for member in members) != 1:
        raise RunError(
            FailureReason.INVALID_TASK, f"{evaluation.name}: set exactly one of lmEval, embedding and python"
        )
    if evaluation.lm_eval is not None:
        from evalfleet_worker.harness.lm_eval.harness import LmEvalHarness

        return LmEvalHarness()
    if evaluation.embedding is not None:
        from evalfleet_worker.harness.embedding import EmbeddingHarness

        return EmbeddingHarness()
    from evalfleet_worker.harness.python import PythonHarness

    return PythonHarness()
