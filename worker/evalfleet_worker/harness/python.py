"""A user's own evaluation: Python code in the user's image, planned, scored and finished like any other.

The entrypoint `module:function` is called with the job's `parameters` as keywords and returns a `PythonEvaluation`.
It is code that the user wrote: it needs `confirmRunUnsafeCode` in the job and `allowUnsafeCode` in the policy.
"""

import hashlib
import importlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from evalfleet_worker.harness.interface import UNPLACED, HarnessContext, HarnessPlan, HarnessResult, Replay
from evalfleet_worker.protocol import EvaluationSpec, FailureReason, PythonSpec, Result, RunError, RunSpec
from evalfleet_worker.requests import Answer, Request, RequestType
from evalfleet_worker.stats.aggregate import Aggregation, interval_of
from evalfleet_worker.strict_json import strict_dumps

EXAMPLES = "examples.jsonl"


@runtime_checkable
class PythonEvaluation(Protocol):
    """What the user's entrypoint returns. Examples and scores are JSON values."""

    def examples(self) -> Iterable[Any]:
        """The examples, always in the same order; called once, by the plan."""
        ...

    def load(self) -> None:
        """Load the model; called once in every worker before the first example."""
        ...

    def score(self, example: Any) -> Mapping[str, float]:
        """One number per metric for one example."""
        ...


class PythonHarness:
    """Runs the user's `PythonEvaluation`; every metric is the mean over the examples."""

    def plan(self, evaluation: EvaluationSpec, context: HarnessContext) -> HarnessPlan:
        """One call per example."""
        lines = [_line(example) for example in load_evaluation(evaluation, context.run).examples()]
        if not lines:
            raise RunError(FailureReason.INVALID_TASK, f"{evaluation.name}: examples() returned nothing")
        content = "\n".join(lines).encode()
        requests = [
            Request(UNPLACED, evaluation.name, RequestType.CALL, index, arguments=line)
            for index, line in enumerate(lines)
        ]
        return HarnessPlan(requests, len(lines), {EXAMPLES: content}, _digest(content))

    def finish(self, evaluation: EvaluationSpec, context: HarnessContext, replay: Replay) -> HarnessResult:
        """Means of the stored scores; the user's code is not run again."""
        content = replay.documents[EXAMPLES]
        if _digest(content) != replay.digest:
            raise RunError(FailureReason.PLAN_CHANGED, f"{evaluation.name}: the examples are not the planned ones")
        examples = content.decode().split("\n")
        scores = [_scores(replay.single(RequestType.CALL, index)) for index in range(len(examples))]
        metrics = sorted({metric for score in scores for metric in score})
        results = [_result(evaluation.name, metric, [s[metric] for s in scores if metric in s]) for metric in metrics]
        rows = [
            {"example": index, "input": example, "metrics": strict_dumps(score)}
            for index, (example, score) in enumerate(zip(examples, scores, strict=True))
        ]
        return HarnessResult(results, rows, len(rows))


class PythonEngine:
    """Scores the examples of `python` evaluations in a worker's child process."""

    def __init__(self, run: RunSpec) -> None:
        self._run = run
        self._loaded: dict[str, PythonEvaluation] = {}

    @property
    def device(self) -> str:
        """Unknown here: the user's code chooses."""
        return "python"

    def score(self, requests: Sequence[Request]) -> list[Answer]:
        """Score the examples one by one, in order.

        Raises:
            RunError: InvalidTask or NotFinite, when a score is no number or no finite one.
        """
        return [Answer(request.row, value=_line(self._numbers(request))) for request in requests]

    def _numbers(self, request: Request) -> dict[str, float]:
        scores = dict(self._evaluation(request.evaluation).score(json.loads(request.arguments)))
        for metric, value in scores.items():
            where = f"{request.evaluation}: example {request.call_index}: metric {metric!r}"
            try:
                scores[metric] = float(value)
            except (TypeError, ValueError) as error:
                raise RunError(FailureReason.INVALID_TASK, f"{where} is {value!r}, which is no number") from error
            if not math.isfinite(scores[metric]):
                raise RunError(
                    FailureReason.NOT_FINITE,
                    f"{where} is {value!r}; leave it out where it is undefined, or mend score()",
                )
        return scores

    def _evaluation(self, name: str) -> PythonEvaluation:
        if name not in self._loaded:
            spec = next(evaluation for evaluation in self._run.evaluations if evaluation.name == name)
            evaluation = load_evaluation(spec, self._run)
            evaluation.load()
            self._loaded[name] = evaluation
        return self._loaded[name]


def load_engine(run: RunSpec) -> PythonEngine:
    """The engine for the run's `python` evaluations."""
    return PythonEngine(run)


def load_evaluation(evaluation: EvaluationSpec, run: RunSpec) -> PythonEvaluation:
    """Call the user's entrypoint.

    Raises:
        RunError: UNSAFE_CODE_FORBIDDEN without both keys; INVALID_TASK when the entrypoint does not fit.
    """
    spec = evaluation.python
    assert spec is not None
    if not run.allow_unsafe_code:
        raise RunError(
            FailureReason.UNSAFE_CODE_FORBIDDEN,
            f"{evaluation.name}: runs code of the user's image; "
            "set confirmRunUnsafeCode in the job and allowUnsafeCode in the policy",
        )
    try:
        made = _function(spec)(**spec.parameters)
    except (ImportError, AttributeError, TypeError) as error:
        raise RunError(
            FailureReason.INVALID_TASK, f"{evaluation.name}: entrypoint {spec.entrypoint!r}: {error}"
        ) from error
    if not isinstance(made, PythonEvaluation):
        raise RunError(
            FailureReason.INVALID_TASK,
            f"{evaluation.name}: {spec.entrypoint} gives {type(made).__name__} without examples(), load(), score()",
        )
    return made


def _function(spec: PythonSpec) -> Any:
    module, _, name = spec.entrypoint.partition(":")
    return getattr(importlib.import_module(module), name)


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _scores(answer: Answer) -> dict[str, float]:
    assert answer.value is not None
    scores: dict[str, float] = json.loads(answer.value)
    return scores


def _result(evaluation: str, metric: str, values: Sequence[float]) -> Result:
    interval = interval_of(values, Aggregation.MEAN)
    return Result(
        evaluation=evaluation,
        metric=metric,
        value=interval.value,
        standard_error=interval.standard_error,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        method=interval.method,
        task=evaluation,
    )
