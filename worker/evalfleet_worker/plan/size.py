"""How large a plan is: arithmetic and predicted seconds of each row, known before any device exists."""

import json
from collections.abc import Sequence

from evalfleet_worker.engine.facts import ModelFacts
from evalfleet_worker.plan.order import shared_prefixes
from evalfleet_worker.requests import Request, RequestType

REFERENCE_FLOPS_PER_SECOND = 25e9
"""One CPU core in fp32: the slowest place a unit may run on, so that units are never too long there."""
EXPECTED_GENERATION = 0.5
"""Share of `max_gen_toks` that a generation is expected to use before a stop string ends it."""
CALL_SECONDS = 0.05
"""A user's own example, of which nothing is known."""


def row_flops(rows: Sequence[Request], model: ModelFacts) -> list[float]:
    """Floating-point operations of every row when the prefix shared with the row before it is not computed again.

    Per new token 2 * body weights, plus 4 * layers * hidden * position for attention; per scored row
    2 * hidden * vocabulary for the LM head (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
    """
    body = 2.0 * (model.parameters - model.embedding_parameters * (1 if model.tied_embeddings else 2))
    attention = 4.0 * model.layers * model.hidden
    head = 2.0 * model.hidden * model.vocabulary
    flops = []
    for request, shared in zip(rows, shared_prefixes(rows), strict=True):
        generated = _generated_tokens(request)
        length = len(request.token_ids) + generated
        new = length - min(shared, max(len(request.token_ids) - max(request.continuation_length, 1), 0))
        scored = request.continuation_length + generated
        flops.append(body * new + attention * new * (2 * length - new) / 2 + head * scored)
    return flops


def row_seconds(rows: Sequence[Request], flops: Sequence[float]) -> list[float]:
    """Predicted seconds of every row on the reference device."""
    return [
        CALL_SECONDS if request.type is RequestType.CALL else work / REFERENCE_FLOPS_PER_SECOND
        for request, work in zip(rows, flops, strict=True)
    ]


def memory_bytes(rows: Sequence[Request], model: ModelFacts) -> int:
    """Bytes that the largest row takes: weights in fp32, KV and activations of its tokens, its scored logits."""
    longest = max((len(row.token_ids) + _generated_tokens(row) for row in rows), default=0)
    scored = max((row.continuation_length + 1 for row in rows), default=0)
    per_token = 4 * model.hidden * (2 * model.layers + 16)
    return max(model.weight_bytes, 4 * model.parameters) + longest * per_token + scored * model.vocabulary * 6


def _generated_tokens(request: Request) -> int:
    if request.type is not RequestType.GENERATE_UNTIL:
        return 0
    return int(json.loads(request.arguments)["max_gen_toks"] * EXPECTED_GENERATION)
