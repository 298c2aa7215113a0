"""Predicted size of work before a model is loaded: FLOPs, memory, seconds. Torch-free.

FLOPs of a forward pass (multiply and add count two): 2 x weights of the blocks per token, 4 x layers x heads x
head size per attended (query, key) pair, 2 x vocabulary x hidden per scored row. A generated token reads all
weights once per batch, so its time is bound by memory bandwidth:
t = max(F / P, bytes / B) + c (roofline, Williams et al. 2009).
"""

import itertools
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from evalfleet_worker.engine.pack import common_prefix
from evalfleet_worker.engine.threads import thread_count
from evalfleet_worker.model.facts import ModelFacts
from evalfleet_worker.requests import Request, RequestType

DEFAULT_NEW_TOKENS = 256
GENERATED_FRACTION = 0.5
"""Share of the permitted new tokens that a generation is expected to use before it stops (prior)."""
GENERATION_BATCH = 8
CPU_EFFICIENCY = 0.7
"""Forward pass of a small model relative to the measured matrix product rate of the same core."""
CPU_BYTES_PER_SECOND = 8e9
STEP_ROWS = 1024


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Sustained rates of one device.

    Attributes:
        name: product name.
        flops_per_second: arithmetic of a forward pass that it sustains.
        bytes_per_second: memory bandwidth.
        overhead_seconds: fixed cost per unit.
        value_bytes: bytes of a weight as the engine holds it there.
    """

    name: str
    flops_per_second: float
    bytes_per_second: float
    overhead_seconds: float = 0.02
    value_bytes: int = 4


@dataclass(frozen=True, slots=True)
class Work:
    """What a set of requests costs.

    Attributes:
        tokens: input tokens as asked.
        computed_tokens: input tokens after shared prefixes are counted once.
        flops: arithmetic of scoring and generating.
        weight_reads: how often all weights are read for generated tokens.
    """

    tokens: int
    computed_tokens: int
    flops: float
    weight_reads: float = 0.0


H200 = DeviceFacts("NVIDIA H200", 4.5e14, 4.0e12, 0.02, 2)
"""Prior for planning where nothing was measured: 60 % of the 790 TFLOP/s bf16 peak measured on one H200."""


def request_work(facts: ModelFacts, request: Request, shared: int = 0) -> Work:
    """Cost of one request of which the first `shared` tokens are computed for another request anyway."""
    length = _input_length(facts, request)
    fresh = max(length - min(shared, length), 0)
    pairs = (length * (length + 1) - (length - fresh) * (length - fresh + 1)) / 2
    flops = fresh * token_flops(facts) + pairs * _pair_flops(facts)
    new_tokens = _new_tokens(request)
    flops += (request.continuation_length + new_tokens) * row_flops(facts)
    flops += new_tokens * (token_flops(facts) + length * _pair_flops(facts))
    return Work(len(request.token_ids), fresh, flops, new_tokens / GENERATION_BATCH)


def unit_work(facts: ModelFacts, requests: Sequence[Request]) -> Work:
    """Cost of a unit: prefixes shared by requests that follow each other are counted once.

    Args:
        facts: sizes of the model.
        requests: in depth-first (sorted by tokens) order, as the plan holds them.
    """
    shared = (common_prefix(a.token_ids, b.token_ids) for a, b in itertools.pairwise(requests))
    works = [
        request_work(facts, request, s) for request, s in zip(requests, itertools.chain([0], shared), strict=False)
    ]
    return total_work(works)


def total_work(works: Iterable[Work]) -> Work:
    """Sum of several works."""
    members = list(works)
    return Work(
        sum(work.tokens for work in members),
        sum(work.computed_tokens for work in members),
        sum(work.flops for work in members),
        sum(work.weight_reads for work in members),
    )


def predicted_seconds(work: Work, facts: ModelFacts, device: DeviceFacts) -> float:
    """Seconds that one worker needs for the work on the device, model already loaded."""
    weights = facts.parameters * device.value_bytes
    arithmetic = work.flops / device.flops_per_second
    return max(arithmetic, work.weight_reads * weights / device.bytes_per_second) + device.overhead_seconds


def memory_needed(facts: ModelFacts, tokens_per_step: int, value_bytes: int) -> int:
    """Bytes for weights, activations of a step and logits (stored once and once in fp32)."""
    weights = facts.parameters * value_bytes
    logits = min(STEP_ROWS, tokens_per_step) * facts.vocabulary * (value_bytes + 4)
    return int(weights + tokens_per_step * activation_bytes(facts, value_bytes) + logits)


def activation_bytes(facts: ModelFacts, value_bytes: int) -> int:
    """Peak activation bytes per token: residual, normed, queries, keys, values, output and the three of the MLP."""
    attention = (2 * facts.heads + 2 * facts.kv_heads) * facts.head_size
    return value_bytes * (4 * facts.hidden + attention + 3 * facts.intermediate)


def token_flops(facts: ModelFacts) -> float:
    """FLOPs per computed token in the blocks: 2 x the weights that it meets (embedding and head counted elsewhere)."""
    head = 0 if facts.tied_embeddings else facts.embedding_parameters
    visited = facts.parameters - facts.idle_parameters - facts.embedding_parameters - head
    return 2.0 * max(visited, facts.layers * facts.hidden)


def row_flops(facts: ModelFacts) -> float:
    """FLOPs per row that is projected onto the vocabulary."""
    return 2.0 * facts.vocabulary * facts.hidden if facts.kind == "causal-lm" else 0.0


@cache
def this_cpu(threads: int | None = None) -> DeviceFacts:
    """Rates of this machine's CPU, from about 0.1 s of fp32 matrix products by numpy.

    Args:
        threads: cores that one worker uses; default as in `threads.thread_count`. One core is measured.
    """
    import numpy as np

    first, second = np.ones((512, 576), np.float32), np.ones((576, 1536), np.float32)
    seconds = min(_timed(lambda: first @ second) for _ in range(8))
    rate = 2.0 * 512 * 576 * 1536 / seconds
    measured_threads = thread_count()
    cores = threads or measured_threads
    return DeviceFacts("cpu", rate / measured_threads * cores * CPU_EFFICIENCY, CPU_BYTES_PER_SECOND)


def _timed(work: object) -> float:
    begin = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begin


def _pair_flops(facts: ModelFacts) -> float:
    return 4.0 * facts.layers * facts.heads * facts.head_size


def _input_length(facts: ModelFacts, request: Request) -> int:
    """Tokens that the model sees: the last scored token is no input; the left is cut at the context length."""
    length = len(request.token_ids) - (1 if request.continuation_length else 0)
    return min(length, facts.context_length)


def _new_tokens(request: Request) -> float:
    if request.type is not RequestType.GENERATE_UNTIL:
        return 0.0
    arguments = json.loads(request.arguments or "{}")
    return float(arguments.get("max_gen_toks") or DEFAULT_NEW_TOKENS) * GENERATED_FRACTION
