"""Every answer is a finite number, or its unit fails: NaN would be scored as "the first choice"."""

import math
from collections.abc import Iterable, Sequence

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.requests import Answer, Request

HINTS = {
    "Float16": "numbers above 65,504 overflow in Float16: set model.dtype BFloat16 or Float32, or mend the weights",
    "": "the weights hold NaN or infinite numbers, or the model overflows",
}


def check_finite(requests: Sequence[Request], answers: Sequence[Answer], dtype: str) -> None:
    """Refuse answers that are no numbers.

    Raises:
        RunError: NotFinite; names the first row, its evaluation and the number type.
    """
    broken = [
        request for request, answer in zip(requests, answers, strict=True) if not all(map(math.isfinite, _of(answer)))
    ]
    if broken:
        first = min(broken, key=lambda request: request.row)
        raise not_finite(first, dtype, f"{len(broken)} of {len(requests)} answers of the unit are no finite numbers")


def not_finite(request: Request, dtype: str, found: str) -> RunError:
    """The error for a request whose answer is no number."""
    hint = HINTS.get(dtype, HINTS[""])
    return RunError(
        FailureReason.NOT_FINITE,
        f"{request.evaluation}: {found} in {dtype} (first: {request.type} {request.call_index}, row {request.row}); "
        f"{hint}",
    )


def _of(answer: Answer) -> Iterable[float]:
    scalar = () if answer.log_probability is None else (answer.log_probability,)
    return (*scalar, *(answer.vector or ()))
