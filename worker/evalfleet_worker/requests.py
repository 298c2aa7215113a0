"""The unit of work as every part of the worker sees it: requests in, answers out.

A request is identified within its run by `(evaluation, type, call_index, part)`; `row` is its position in the plan's
depth-first order and stands for that identity in the run store. The request `key` only de-duplicates and
caches deterministic requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class RequestType(StrEnum):
    """What is asked of the engine."""

    LOGLIKELIHOOD = "loglikelihood"
    """Sum of log-probabilities of the last `continuation_length` tokens, and whether each is the arg-max."""
    LOGLIKELIHOOD_ROLLING = "loglikelihood_rolling"
    """One window of a rolling request: scored like `LOGLIKELIHOOD`; `part` counts the windows."""
    GENERATE_UNTIL = "generate_until"
    """Text generated after the tokens, cut at the stop strings in `arguments`."""
    EMBED = "embed"
    """Pooled embedding of the tokens; pooling in `arguments`."""
    CALL = "call"
    """One example of a user's own evaluation; the example is JSON in `arguments`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request: token ids (prefix and continuation together) and what to do with them.

    Attributes:
        row: position in the plan, 0-based; the identity of the answer in the store.
        evaluation: name of the evaluation it belongs to.
        type: what is asked.
        call_index: 0-based index of the harness's call within (evaluation, type).
        part: 0-based window of a rolling request, else 0.
        token_ids: int token ids of the model's input including the scored continuation.
        continuation_length: number of scored tokens at the end.
        arguments: JSON: generation arguments, pooling, or a user's example.
        key: 16-byte request key of deterministic requests, else b"".
        seed: seed of sampled requests, else None.
    """

    row: int
    evaluation: str
    type: RequestType
    call_index: int
    part: int = 0
    token_ids: Sequence[int] = ()
    continuation_length: int = 0
    arguments: str = ""
    key: bytes = b""
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the request of the same `row`; only the members of its type are set."""

    row: int
    log_probability: float | None = None
    is_greedy: bool | None = None
    text: str | None = None
    vector: tuple[float, ...] | None = None
    value: str | None = None
    """JSON value returned by a user's own evaluation."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A contiguous range of rows that one worker scores and commits as a whole."""

    index: int
    first_row: int
    row_count: int
    tokens: int
    predicted_seconds: float


class Engine(Protocol):
    """Scores requests; one lives in a child process of each worker and holds the model."""

    @property
    def device(self) -> str:
        """Product name of the device, for example `cpu` or `NVIDIA H200`."""
        ...

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Answer all requests of one unit, in their order; packing is a pure function of requests and settings."""
        ...
