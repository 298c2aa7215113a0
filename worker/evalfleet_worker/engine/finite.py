"""Every answer is a finite number, or its unit fails: NaN would be scored as "the first choice"."""

import math
from collections.abc import Callable, Sequence

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Request

HINTS = {
    "Float16": "numbers above 65,504 overflow in Float16: set model.dtype BFloat16 or Float32, or mend the weights",
    "": "the weights hold NaN or infinite numbers, or the model overflows",
}
MOST_TRIED = 64
"""Requests that are tried alone to find the one to blame."""


def check_finite(
    requests: Sequence[Request], answers: Sequence[Answer], dtype: str, alone: Callable[[Request], Answer]
) -> None:
    """Refuse answers that are no numbers.

    Args:
        requests: what was asked.
        answers: theirs, in their order.
        dtype: the number type, for people.
        alone: answers a request in a step of its own: in a shared one, NaN spoils the neighbours (0 x NaN is NaN).

    Raises:
        RunError: NotFinite; names the first row that is to blame, its evaluation and the number type.
    """
    pairs = zip(requests, answers, strict=True)
    broken = sorted((request for request, answer in pairs if not _is_finite(answer)), key=lambda one: one.row)
    if broken:
        blamed = (request for request in broken[:MOST_TRIED] if not _is_finite(alone(request)))
        found = f"{len(broken)} of {len(requests)} answers of the unit are no finite numbers"
        raise not_finite(next(blamed, broken[0]), dtype, found)


def not_finite(request: Request, dtype: str, found: str) -> RunError:
    """The error for a request whose answer is no number."""
    hint = HINTS.get(dtype, HINTS[""])
    return RunError(
        FailureReason.NOT_FINITE,
        f"{request.evaluation}: {found} in {dtype} (first: {request.type} {request.call_index}, row {request.row}); "
        f"{hint}",
    )


def _is_finite(answer: Answer) -> bool:
    scalar = () if answer.log_probability is None else (answer.log_probability,)
    return all(map(math.isfinite, (*scalar, *(answer.vector or ()))))
