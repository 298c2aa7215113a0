"""How far two executions of one request may be apart. Pure, torch-free.

Two workers sum in different orders, so each log-probability carries a rounding error of its own. Rounding errors of
different tokens are independent to good approximation: the error of a sum over n tokens is a random walk and grows with
the square root of n. The allowed distance is six standard deviations of it,

    6 s u sqrt(n),   u = unit roundoff of the number type (2^-24, 2^-8, 2^-11),

with s, the standard deviation per token in units of u, measured with SmolLM2-135M (30 layers), packed and padded
against plain passes, on sums of 1 to 192 tokens:

    Float32   39 on WikiText-2, 154 on random token ids: 160 is taken, still below a thousandth of a nat
    BFloat16  11 on WikiText-2, 78 on random token ids, which no evaluation has: 22 is taken; Float16 likewise

s is larger in Float32, where the order of summation dominates, than in half precision, where products are summed in
Float32 and only what is stored is rounded.
An embedding is compared by the same rule for one token, relative to its length.
"""

import math
from dataclasses import dataclass

from evalfleet_worker.protocol import Numerics
from evalfleet_worker.requests import Answer, Request

ROUNDOFF = {"Float32": 2.0**-24, "BFloat16": 2.0**-8, "Float16": 2.0**-11}
DEVIATION = {"Float32": 160.0, "BFloat16": 22.0, "Float16": 22.0}
"""Standard deviation of one log-probability [unit roundoffs]."""
DEVIATIONS = 6.0
"""A difference beyond six standard deviations happens once in 10^9 requests."""


def tolerance(numerics: Numerics, tokens: int) -> float:
    """Largest difference [nats] between two sums of `tokens` log-probabilities; 0 in `Strict`, which is bitwise."""
    if numerics.strict or not numerics.dtype:
        return 0.0
    deviation = DEVIATION[numerics.dtype] * ROUNDOFF[numerics.dtype]
    return DEVIATIONS * deviation * math.sqrt(max(1, tokens))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Whether two executions agree, in the numerics class of their run."""

    numerics: Numerics

    def holds(self, request: Request, first: Answer, second: Answer) -> bool:
        """Texts and values agree exactly, log-probabilities and embeddings within the tolerance."""
        if (first.row, first.text, first.value) != (second.row, second.text, second.value):
            return False
        return self._sums(request, first, second) and self._vectors(first, second)

    def _sums(self, request: Request, first: Answer, second: Answer) -> bool:
        one, other = first.log_probability, second.log_probability
        if one is None or other is None:
            return one is other
        return one == other or abs(one - other) <= tolerance(self.numerics, request.continuation_length)

    def _vectors(self, first: Answer, second: Answer) -> bool:
        one, other = first.vector or (), second.vector or ()
        return len(one) == len(other) and math.dist(one, other) <= tolerance(self.numerics, 1) * math.hypot(*one)
