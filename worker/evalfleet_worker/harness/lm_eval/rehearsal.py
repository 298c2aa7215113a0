"""The finish, played with made-up answers while only the plan has run.

lm-eval meets its filters, metrics and aggregations for the first time once all answers are there: an exception then
costs every GPU hour of the run. The plan therefore builds the tasks anew from its own stored documents, as the finish
will, and lets lm-eval score answers that are right, wrong and equal.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lm_eval.api.model import LM

from evalfleet_worker.harness.startup import TorchNeededError, let_torch_in
from evalfleet_worker.protocol import FailureReason, RunError

ODD_TEXTS = ("", "0", "The answer is (A).", "[invalid]", "\u00e9\u20ac")
"""Texts of a model that does not answer."""
HINTS = {"f1": "; f1 compares two choices, of which 1 is the positive one: use acc or mcc for more"}
UNLIKELY, LIKELY = -9.0, -1.0
"""Log-probabilities of choices [nats]."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One way to answer all documents: `RIGHT`, another choice or text for each document, or no preference."""

    is_right: bool = False
    prefers: bool = True


RIGHT = Pattern(is_right=True)
PATTERNS = (RIGHT, Pattern(), Pattern(prefers=False))


def rehearse(tasks: Mapping[str, Any], evaluate: Callable[[LM], Mapping[str, Any]]) -> list[str]:
    """Let `evaluate` score made-up answers for built tasks, and name what it stumbles over.

    Args:
        tasks: built tasks, by name; they are spent afterwards.
        evaluate: lm-eval's evaluation of a model, without a bootstrap.

    Returns:
        Warnings: metrics that are zero although every answer is right, and groups without a metric.

    Raises:
        RunError: INVALID_TASK, naming task, document, and metric or filter.
    """
    found: list[str] = []
    for task in tasks.values():
        _guard(task)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about made-up answers
        for pattern in PATTERNS:
            _forget_answers(tasks)
            results = _evaluated(MadeUpModel(tasks, pattern), evaluate)
            if pattern.is_right:
                found = [*_never_right(tasks, results), *_never_aggregated(results)]
    return found


def _evaluated(model: LM, evaluate: Callable[[LM], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return evaluate(model)
    except RunError:
        raise
    except TorchNeededError:
        raise
    except Exception as error:  # what is not guarded, as the aggregation of a group
        let_torch_in(error)
        raise RunError(
            FailureReason.INVALID_TASK, f"scores cannot be put together: {type(error).__name__}: {error}"
        ) from error


class MadeUpModel(LM):  # type: ignore[misc]  # lm_eval has no type information
    """Answers by a pattern instead of a model."""

    def __init__(self, tasks: Mapping[str, Any], pattern: Pattern) -> None:
        super().__init__()
        self._pattern = pattern
        self._tasks = {task.config.task: task for task in tasks.values()}
        self._choices = {
            (name, document): count
            for name, task in self._tasks.items()
            for document, count in Counter(instance.doc_id for instance in task.instances).items()
        }

    def apply_chat_template(self, chat_history: Any, add_generation_prompt: bool = True) -> str:
        """Not called: the prompts are built already."""
        raise NotImplementedError

    @property
    def tokenizer_name(self) -> str:
        """Name that fingerprints lm-eval's request cache, which is not used here."""
        return "model"

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Likely for the preferred choice, unlikely for the others."""
        return [self._score(request) for request in requests]

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Numbers that differ from text to text."""
        return [UNLIKELY - index % 3 for index, _ in enumerate(requests)]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The target, or a text that is none."""
        return [self._text(index, request) for index, request in enumerate(requests)]

    def _score(self, request: Any) -> tuple[float, bool]:
        if not self._pattern.prefers:
            return UNLIKELY, False
        gold = _gold_index(self._tasks[request.task_name], request.doc)
        shift = 0 if self._pattern.is_right else 1 + request.doc_id
        preferred = (gold + shift) % self._choices[request.task_name, request.doc_id]
        return (LIKELY, True) if request.idx == preferred else (UNLIKELY, False)

    def _text(self, index: int, request: Any) -> str:
        if not self._pattern.is_right:
            return ODD_TEXTS[index % len(ODD_TEXTS)] if self._pattern.prefers else ODD_TEXTS[-1]
        text = _target_text(self._tasks[request.task_name], request.doc)
        for stop in request.args[1].get("until") or ():
            text = text.split(stop)[0] if stop else text
        return text


def _gold_index(task: Any, document: Any) -> int:
    try:
        gold = task.doc_to_text(document) if getattr(task, "multiple_input", 0) else task.doc_to_target(document)
        gold = gold[0] if isinstance(gold, list) else gold
        return task.doc_to_choice(document).index(gold) if isinstance(gold, str) else int(gold)
    except Exception:  # noqa: BLE001 - a task of another kind: any choice will do
        return 0


def _target_text(task: Any, document: Any) -> str:
    try:
        target = task.doc_to_target(document)
        if isinstance(target, int) and task.config.doc_to_choice is not None:
            target = task.doc_to_choice(document)[target]
        return str(target[0] if isinstance(target, list) else target)
    except Exception:  # noqa: BLE001 - a task of another kind: any text will do
        return ODD_TEXTS[1]


def _forget_answers(tasks: Mapping[str, Any]) -> None:
    for task in tasks.values():
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}


def _guard(task: Any) -> None:
    """Let the task name document, filter or metric when one of its own functions fails."""
    process, aggregation = task.process_results, task.aggregation
    documents = list(dict.fromkeys(instance.doc_id for instance in task.instances))
    calls = iter(documents * len(PATTERNS) * max(1, len(getattr(task, "_filters", ()))))

    def process_results(document: Any, results: Any) -> Any:
        index = next(calls, None)
        try:
            return process(document, results)
        except Exception as error:
            metrics = ", ".join(getattr(task, "_metric_fn_list", {}))
            raise _stumbled(
                task, f"document {index}, metrics ({metrics}) of the answers {results!r:.80}", error
            ) from error

    def guarded_aggregation() -> dict[str, Any]:
        return {metric: _guarded_metric(task, metric, function) for metric, function in aggregation().items()}

    task.process_results, task.aggregation = process_results, guarded_aggregation
    if hasattr(task, "_filters"):
        task.apply_filters = lambda: _apply_filters(task)


def _guarded_metric(task: Any, metric: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def aggregate(items: Any) -> Any:
        try:
            return function(items)
        except Exception as error:
            where = f"metric {metric!r} over all documents"
            raise _stumbled(task, where, error, HINTS.get(metric, "")) from error

    return aggregate


def _apply_filters(task: Any) -> None:
    for ensemble in task._filters:
        try:
            ensemble.apply(task.instances)
        except Exception as error:
            raise _stumbled(task, f"filter {ensemble.name!r}{_first_document(ensemble, task)}", error) from error


def _first_document(ensemble: Any, task: Any) -> str:
    """The document whose answer alone the filter cannot take."""
    for instance in task.instances:
        try:
            ensemble.apply([instance])
        except Exception:  # noqa: BLE001 - looked for
            return f", document {instance.doc_id}, of the answer {instance.resps!r:.80}"
    return ""


def _stumbled(task: Any, where: str, error: Exception, hint: str = "") -> RunError:
    let_torch_in(error)
    what = f"{type(error).__name__}: {error}{hint}"
    return RunError(
        FailureReason.INVALID_TASK,
        f"task {task.config.task!r}, {where}: {what} (tried in the plan with made-up answers)",
    )


def _never_right(tasks: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[str]:
    """Tasks whose own targets never match, so that no model can score."""
    for name, task in tasks.items():
        found = [v for key, v in results["results"].get(name, {}).items() if key.startswith("exact_match,")]
        if task.OUTPUT_TYPE == "generate_until" and found and not any(found):
            yield (
                f"task {name!r}: exact_match is 0 even where the answer is the target of the document, so no model can "
                "score: compare doc_to_target with the filters, the stop strings and the case of letters"
            )


def _never_aggregated(results: Mapping[str, Any]) -> Iterator[str]:
    """Groups that ask for an aggregate and get none, as for a metric that no member has."""
    for name in results.get("groups", {}):
        if not any("," in key for key in results["results"][name]):
            yield (
                f"group {name!r}: no metric of its aggregate_metric_list is one of its tasks' (compare names and "
                "filter_list), so that the group has no score"
            )
