"""The interface that every harness fulfils: plan the requests of an evaluation, finish its metrics."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from evalfleet_worker.harness.encode import TextEncoder
from evalfleet_worker.protocol import EvaluationSpec, Result, RunSpec
from evalfleet_worker.requests import Answer, Request, RequestType

UNPLACED = -1
"""Row of a request that has no place in the plan yet."""


@dataclass(frozen=True, slots=True)
class HarnessContext:
    """What a harness may use besides the evaluation's own spec.

    Attributes:
        run: the run that the evaluation belongs to.
        encoder: loads the model's tokenizer on its first call and returns the encoder.
        progress: takes one line about what is being done.
        generation_config: what the model recommends for generation.
    """

    run: RunSpec
    encoder: Callable[[], TextEncoder]
    progress: Callable[[str], None]
    generation_config: Callable[[], Mapping[str, Any]] = dict


@dataclass(frozen=True, slots=True)
class HarnessPlan:
    """The requests of one evaluation, in the harness's own order.

    Attributes:
        requests: without row, key and seed (the planner adds them).
        samples: documents that will be counted.
        documents: files stored with the plan, from which the finisher replays the harness.
        digest: of the harness's calls; the finisher refuses to score another set.
        warnings: what is scored, but perhaps not as meant; sentences for the summary.
    """

    requests: Sequence[Request]
    samples: int
    documents: Mapping[str, bytes]
    digest: str
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class HarnessResult:
    """The metrics of one evaluation.

    Attributes:
        results: published numbers with their intervals.
        rows: one mapping per sample and filter, JSON values only, in document order.
        samples: documents counted.
        official: the harness's own results file, where it has one.
        warnings: what a person should know about the numbers, in words.
    """

    results: Sequence[Result]
    rows: Sequence[Mapping[str, Any]]
    samples: int
    official: Mapping[str, Any] | None = None
    warnings: Sequence[str] = ()


Call = tuple[RequestType, int]
"""Type and call index of one call of a harness."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the finisher hands to a harness.

    Attributes:
        digest: of the planned calls.
        documents: the plan's files of this evaluation.
        answers: by call; the parts of a rolling call in order.
    """

    digest: str
    documents: Mapping[str, bytes]
    answers: Mapping[Call, Sequence[Answer]] = field(repr=False)

    def single(self, kind: RequestType, index: int) -> Answer:
        """The answer of a call that has exactly one part."""
        (answer,) = self.answers[(kind, index)]
        return answer


class Harness(Protocol):
    """Plans requests and finishes metrics; scoring in between is the engine's."""

    def plan(self, evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
        """All requests of the evaluation.

        Raises:
            RunError: the evaluation is refused or its data cannot be read; says what to do.
        """
        ...

    def finish(self, evaluation: EvaluationSpec, context: HarnessContext, replay: Replay) -> HarnessResult:
        """The metrics of the evaluation from the answers to its planned requests.

        Raises:
            RunError: PLAN_CHANGED when the harness asks for something else than was planned.
        """
        ...
