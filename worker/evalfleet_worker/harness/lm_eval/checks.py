"""What would make a document's score meaningless, found before anything is scored.

lm-eval takes a gold answer that is none of the choices for a wrong answer of the model, a missing value for the text
`None`, and a column that does not exist for a constant text: scores near zero that look like the model's. Documents
of the user's own files and configs are refused for that; of lm-eval's own tasks a few are known to be so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from evalfleet_worker.harness.lm_eval.templates import members_of, wanted_by
from evalfleet_worker.harness.rows import Rows, missing_value
from evalfleet_worker.harness.startup import let_torch_in
from evalfleet_worker.protocol import FailureReason, RunError

SHOWN = 80
"""Longest part of a text in a message [characters]."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """One document that cannot be scored as it is written.

    Attributes:
        document: 0-based index.
        field: member of the task config that shows it.
        words: what is wrong and what to do.
        reason: of the refusal.
        fatal: lm-eval itself would stop at it.
    """

    document: int
    field: str
    words: str
    reason: FailureReason = FailureReason.INVALID_TASK
    fatal: bool = False

    def refusal(self, task: str, place: str = "") -> RunError:
        """The refusal of a task for this document."""
        where = f"document {self.document}{place}, {self.field}"
        return RunError(self.reason, f"task {task!r}, {where}: {self.words}")


class _OddError(Exception):
    """Carries field and words of what is wrong with one document."""

    def __init__(self, field: str, words: str, fatal: bool = False) -> None:
        super().__init__(words)
        self.field, self.words, self.fatal = field, words, fatal


@dataclass(frozen=True, slots=True)
class Shape:
    """What document 0 makes lm-eval believe of all documents."""

    several_targets: bool
    several_inputs: bool


def oddities(task: Any, documents: Sequence[tuple[int, Any]]) -> Iterator[Oddity]:
    """The documents (index, document) of a task that cannot be scored as they are written, in order."""
    shape = _shape(task, documents)
    missing = _MissingValues(task, task.eval_docs)
    for index, document in documents:
        yield from missing.of(index, document)
        try:
            _check(task, document, shape)
        except _OddError as odd:
            yield Oddity(index, odd.field, odd.words, fatal=odd.fatal)


def unusable_shots(task: Any, documents: Any) -> Iterator[Oddity]:
    """The few-shot examples of a task that cannot be shown as they are written."""
    missing = _MissingValues(task, documents)
    for index, document in enumerate(documents):
        yield from missing.of(index, document)
        try:
            _check_demonstration(task, document)
        except _OddError as odd:
            yield Oddity(index, odd.field, odd.words, fatal=True)


class _MissingValues:
    """Finds values that are missing in columns that a template uses without asking for them."""

    def __init__(self, task: Any, documents: Any) -> None:
        self._rows = documents if isinstance(documents, Rows) else Rows((), ())
        self._wanted = {
            member: wanted_by(template, task.features) for member, template in members_of(task.config).items()
        }

    def of(self, index: int, document: Any) -> Iterator[Oddity]:
        """The first of one document."""
        for member, columns in self._wanted.items():
            for column in sorted(columns.names - columns.asked):
                if column in document and self._rows.lacks(document[column]):
                    words = missing_value("it", column, document[column])
                    yield Oddity(index, member, words, FailureReason.DATASET_UNREADABLE)
                    return


def _shape(task: Any, documents: Sequence[tuple[int, Any]]) -> Shape:
    """By lm-eval's rule; a document 0 that cannot be rendered is reported by its check."""
    try:
        _, first = documents[0]
        has_choices = task.config.doc_to_choice is not None
        several_inputs = has_choices and isinstance(task.doc_to_text(first), int)
        return Shape(isinstance(task.doc_to_target(first), list), several_inputs)
    except Exception:  # noqa: BLE001 - templates and functions of tasks raise anything
        return Shape(several_targets=False, several_inputs=False)


def _check(task: Any, document: Any, shape: Shape) -> None:
    text = _value(task, "doc_to_text", document)
    choices = _value(task, "doc_to_choice", document) if task.config.doc_to_choice is not None else None
    target = _value(task, "doc_to_target", document)
    _check_text(text, shape)
    if task.config.process_results is not None or type(task).process_results is not _configurable().process_results:
        return  # the task has its own idea of a gold answer
    if task.OUTPUT_TYPE == "multiple_choice":
        _check_choices(choices)
        field, gold = ("doc_to_text", text) if shape.several_inputs else ("doc_to_target", target)
        _check_gold(field, gold, choices, shape)
    elif task.OUTPUT_TYPE == "generate_until":
        _check_target(target, choices, shape)
    elif not isinstance(target, str):
        raise _OddError("doc_to_target", f"{_shown(target)} is no text to score: write a template, {{{{ column }}}}")


def _check_text(text: Any, shape: Shape) -> None:
    """lm-eval takes a text of digits alone for the index of a choice where there are choices."""
    if not isinstance(text, str) and not (shape.several_inputs and isinstance(text, int)):
        raise _OddError(
            "doc_to_text",
            f"{_shown(text)} is a {type(text).__name__}, no text: write a template around it, such as Number: "
            "{{ column }}",
        )


def _check_demonstration(task: Any, document: Any) -> None:
    shots = task.fewshot_cfg
    text = _value(task, "doc_to_text", document, shots.doc_to_text)
    has_choices = shots.doc_to_choice is not None
    choices = _value(task, "doc_to_choice", document, shots.doc_to_choice) if has_choices else None
    answer = _value(task, "doc_to_target", document, shots.doc_to_target)
    answer = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(text, str) and choices is None:
        raise _OddError("doc_to_text", f"{_shown(text)} is no text to show as an example")
    if not isinstance(answer, str) and (choices is None or not isinstance(answer, int)):
        raise _OddError("doc_to_target", f"{_shown(answer)} is no text to show as an example: write {{{{ column }}}}")
    if isinstance(answer, int) and choices is not None and not 0 <= answer < len(choices):
        raise _OddError("doc_to_target", f"gold {answer} is no index of the {len(choices)} choices")


def _configurable() -> Any:
    from lm_eval.api.task import ConfigurableTask

    return ConfigurableTask


def _value(task: Any, field: str, document: Any, *override: Any) -> Any:
    if getattr(task.config, field) is None and getattr(type(task), field) is getattr(_configurable(), field):
        raise _OddError(field, "it is not set: write the name of a column or a template", fatal=True)
    try:
        return getattr(task, field)(document, *override)
    except RunError:
        raise
    except Exception as error:  # templates and functions of tasks raise anything
        let_torch_in(error)
        raise _OddError(field, f"{type(error).__name__}: {error}{_columns(task, error)}", fatal=True) from error


def _columns(task: Any, error: Exception) -> str:
    if type(error).__name__ != "UndefinedError":
        return ""
    return f"; the columns are {', '.join(map(repr, task.features))}"


def _check_choices(choices: Any) -> None:
    if not isinstance(choices, list | tuple) or not choices:
        raise _OddError("doc_to_choice", f"{_shown(choices)} is no list of choices: a document needs at least one")
    for number, choice in enumerate(choices):
        if isinstance(choice, bool):
            raise _OddError(
                "doc_to_choice", f"choice {number} is {choice}, no text: YAML reads no, yes, on and off so; quote them"
            )
        if not isinstance(choice, str):
            raise _OddError("doc_to_choice", f"choice {number} is {_shown(choice)}, no text: make texts of the choices")
        if not choice:
            raise _OddError("doc_to_choice", f"choice {number} is empty: there is nothing to score")


def _check_gold(field: str, gold: Any, choices: Any, shape: Shape) -> None:
    if shape.several_targets is not isinstance(gold, list):
        many, one = ("lists", "no list") if shape.several_targets else ("single answers", "a list")
        raise _OddError(field, f"{_shown(gold)} is {one}, but document 0 has {many}: write all golds alike")
    if isinstance(gold, list) and not gold:
        raise _OddError(field, "the list of right choices is empty: no answer can be right")
    for member in gold if isinstance(gold, list) else [gold]:
        _check_index(field, member, choices, in_list=isinstance(gold, list))


def _check_index(field: str, gold: Any, choices: Any, in_list: bool) -> None:
    if isinstance(gold, int):
        if not 0 <= gold < len(choices):
            raise _OddError(field, f"gold {gold} is no index of the {len(choices)} choices (0 to {len(choices) - 1})")
        return
    if isinstance(gold, str) and not in_list:
        if gold not in choices:
            raise _OddError(
                field, f"gold {_shown(gold)} is not among the choices {_shown(choices)}{_hint(gold, choices)}"
            )
        return
    raise _OddError(
        field, f"gold {_shown(gold)} is a {type(gold).__name__}: write the index of a choice as a whole number"
    )


def _hint(gold: str, choices: Any) -> str:
    near = [choice for choice in choices if choice.strip().casefold() == gold.strip().casefold()]
    if near:
        return f"; {near[0]!r} differs in case or spaces only"
    composed = [choice for choice in choices if normalize("NFKC", choice) == normalize("NFKC", gold)]
    if composed:
        return f"; {gold!a} and {composed[0]!a} look alike and differ in their Unicode normalisation only"
    if gold.strip().isdigit():
        return "; it is a text: a template such as {{ column }} reads it as an index"
    return "; write a choice or its index"


def _check_target(target: Any, choices: Any, shape: Shape) -> None:
    if choices is not None:
        _check_choices(choices)
        if not isinstance(target, int) or not 0 <= target < len(choices):
            raise _OddError(
                "doc_to_target",
                f"gold {_shown(target)} is no index of the {len(choices)} choices, which doc_to_choice asks for here",
            )
        return
    if isinstance(target, list) and not shape.several_targets:
        raise _OddError("doc_to_target", f"{_shown(target)} is a list, but document 0 has a single answer")
    if target is None or (isinstance(target, list) and (not target or None in target)):
        raise _OddError("doc_to_target", f"gold {_shown(target)} holds no text: no answer can be right")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
