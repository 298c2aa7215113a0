"""What was looked at in every answer before a score is published."""

from evalfleet_worker.finish.merge import Merged
from evalfleet_worker.protocol import FailureReason, Proof, RunError


def proof_of(merged: Merged) -> Proof:
    """The proof over all merged units.

    Raises:
        RunError: PLAN_CHANGED when more than one model answered.
    """
    values = {answer.log_probability for answer in merged.answers.values() if answer.log_probability is not None}
    numbers = sum(answer.log_probability is not None or answer.vector is not None for answer in merged.answers.values())
    return Proof(
        units=len(merged.metadata),
        model=_one_model(merged),
        finite_answers=numbers - len(merged.damaged),
        distinct_log_probabilities=len(values),
    )


def _one_model(merged: Merged) -> str:
    """The fingerprint of the model that answered every unit; empty when engines know none."""
    units: dict[str, int] = {}
    for part in merged.metadata:
        fingerprint = part.get("modelFingerprint", "")
        units[fingerprint] = units.get(fingerprint, 0) + 1
    known = {fingerprint: count for fingerprint, count in units.items() if fingerprint}
    if len(known) > 1:
        counts = ", ".join(f"{count} by {fingerprint[:12]}" for fingerprint, count in sorted(known.items()))
        raise RunError(
            FailureReason.PLAN_CHANGED,
            f"more than one model answered the units ({counts}), so no score is published: pin a revision or a folder "
            "that does not change, and run the evaluation anew",
        )
    return next(iter(known), "") if len(units) == 1 else ""
