"""What is wrong with a field, in words that say what to write instead. Pure."""

import difflib
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from evalfleet.api.wire import DNS_LABEL, MONEY, OBJECT_NAME, URI
from evalfleet.api.yaml_reading import Problem

TEXT_FIELDS = frozenset(
    {
        *("doc_to_text", "doc_to_target", "doc_to_choice", "description", "fewshot_delimiter", "target_delimiter"),
        *("until", "gen_prefix"),
    }
)
"""Members of an lm-eval task whose values are texts: a truth value in them is an unquoted word."""
BOOLEAN_WORDS = "YAML reads an unquoted yes, no, y, n, on, off, true or false as a truth value"

SCALARS = frozenset({"str", "constrained-str", "int", "constrained-int", "bool"})
"""What pydantic adds to the location of an error where a field may be of several kinds."""
TIME_WORDS = "a time with its zone, such as 2030-01-31T18:00:00Z"

MAPPING_HINTS = {
    "model": ": write {uri: hf://org/name}",
    "store": ": write {uri: s3://bucket/path}",
    "data": ": write {uri: file://./folder}",
    "evaluations": ": write {name: arc, lmEval: {task: arc_easy}}",
    "lmEval": ": write {task: arc_easy}",
}
"""What stands where a text was written in place of a mapping."""

PATTERN_WORDS: dict[str, str] = {
    DNS_LABEL: "lower-case letters, digits and '-', beginning and ending with a letter or digit, at most 63",
    MONEY: 'a decimal number in quotes with at most four decimals, such as "3.20"',
    URI: "a URI with a scheme: hf://org/name, s3://bucket/path, gs://, az://, pvc://claim/path or file://./folder",
    OBJECT_NAME: "lower-case letters, digits, '-' and '.'",
    r"^[^/].*$": "a path relative to data.uri, without '/' at its beginning",
    r"^[0-9](\.[0-9]{1,4})?$": 'a decimal number in quotes from 0 to 9.9999, such as "0.7"',
    r"^(0(\.[0-9]{1,4})?|1(\.0{1,4})?)$": 'a decimal number in quotes from 0 to 1, such as "0.95"',
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "module:function, such as my_package.my_module:make",
    r"^(HF|AWS|AZURE|GOOGLE|NCCL|TORCH|CUDA|TOKENIZERS|USER)_[A-Z0-9_]{1,120}$": (
        "a name that begins with HF_, AWS_, AZURE_, GOOGLE_, NCCL_, TORCH_, CUDA_, TOKENIZERS_ or USER_, in capitals"
    ),
    r"^[0-9]{1,9}(\.[0-9]{1,3})?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$": 'a quantity in quotes, such as "4", "500m" or "16Gi"',
    r"^[A-Z]{3}$": "a currency in three capitals, such as USD",
    r"^[a-z0-9.-]+/[a-z0-9.-]+$": "a resource with its domain, such as nvidia.com/gpu",
}
"""What a pattern of the API asks for."""


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """The errors of pydantic about an object of `model` in words, one per field."""
    found: dict[str, Problem] = {}
    for detail in error.errors():
        parts = detail["loc"]
        if parts and parts[-1] in SCALARS:  # one of several kinds that are allowed: pydantic complains of each
            path = path_of(parts[:-1])
            found[path] = Problem(path, f"must be text, a whole number, true or false, not {_shown(detail['input'])}")
        else:
            path = path_of(parts)
            found.setdefault(path, Problem(path, _message(detail, model)))
    return list(found.values())


def path_of(parts: Sequence[int | str]) -> str:
    """`spec.evaluations[0].name` of the location of an error."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".")


def unquoted_texts(value: Any, path: str, inside_text: bool = False) -> Iterator[Problem]:
    """Truth values in an lm-eval task where it reads text: unquoted words that YAML does not take for text."""
    if isinstance(value, bool) and inside_text:
        yield Problem(path, _not_text(value))
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from unquoted_texts(member, f"{path}.{key}", inside_text or key in TEXT_FIELDS)
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from unquoted_texts(member, f"{path}[{index}]", inside_text)


def _message(detail: Any, model: type[BaseModel]) -> str:
    kind = str(detail["type"])
    for begins, words in WORDS.items():
        if kind.startswith(begins):
            return words(detail, model)
    return _plainly(detail)


def _unknown(detail: Any, model: type[BaseModel]) -> str:
    *parent, name = detail["loc"]
    known = _members(model, parent)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.6)
    said = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"unknown field: check its spelling and indentation ({said})"


def _pattern(detail: Any, _: type[BaseModel]) -> str:
    pattern, value = detail["ctx"]["pattern"], detail["input"]
    hint = _suggestion(pattern, value)
    return f"must be {PATTERN_WORDS.get(pattern, f'as {pattern} says')}, not {value!r}" + (f"; {hint}" if hint else "")


def _suggestion(pattern: str, value: str) -> str:
    if pattern in (DNS_LABEL, OBJECT_NAME):
        better = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:63]
        return f"for example {better}" if re.fullmatch(DNS_LABEL, better) else ""
    if pattern == URI:
        return _uri_of(value)
    return ""


def _uri_of(value: str) -> str:
    if re.fullmatch(r"[\w.-]+/[\w.-]+", value) and not value.startswith("."):
        return f"a model of the hub is hf://{value}, a folder beside the manifest file://./{value}"
    if value.startswith(("/", "~")):
        return f"a folder of this machine is file://{value}"
    relative = value.removeprefix("./")
    return f"a folder beside the manifest is file://./{relative}" if value and ":" not in value else ""


def _no_text(detail: Any, _: type[BaseModel]) -> str:
    return _not_text(detail["input"])


def _not_text(value: Any) -> str:
    if isinstance(value, bool):
        return f"must be text, not the truth value {str(value).lower()}: {BOOLEAN_WORDS}; put the word in quotes"
    if isinstance(value, int | float):
        return f"must be text, not the number {value}: put what you mean in quotes"
    return f"must be text, not {_kind(value)}"


def _no_integer(detail: Any, _: type[BaseModel]) -> str:
    value = detail["input"]
    share = detail["loc"][-1] == "limit" and isinstance(value, float) and 0 < value < 1
    more = ": a share of the documents is not supported, say how many" if share else ""
    return f"must be a whole number, not {_shown(value)}{more}"


def _no_mapping(detail: Any, _: type[BaseModel]) -> str:
    value = detail["input"]
    names = [part for part in detail["loc"] if isinstance(part, str)]
    hint = MAPPING_HINTS.get(names[-1], "") if isinstance(value, str) else ""
    return f"must be a mapping with fields of its own, not {_shown(value)}{hint}"


def _no_list(detail: Any, _: type[BaseModel]) -> str:
    return f"must be a list (each entry begins with '- '), not {_shown(detail['input'])}"


def _length(detail: Any, bound: str, name: str) -> str:
    return f"must have {bound} {detail['ctx'][name]} entries, not {detail['ctx']['actual_length']}"


def _plainly(detail: Any) -> str:
    message = str(detail["msg"]).removeprefix("Value error, ").replace("Input should", "must", 1)
    return f"{message}, not {_shown(detail['input'])}" if message.startswith("must ") else message


WORDS: dict[str, Callable[[Any, type[BaseModel]], str]] = {
    "extra_forbidden": _unknown,
    "missing": lambda *_: "is required",
    "literal_error": lambda detail, _: f"must be {detail['ctx']['expected']}, not {_shown(detail['input'])}",
    "string_pattern_mismatch": _pattern,
    "string_type": _no_text,
    "bool_": lambda detail, _: f"must be true or false, not {_shown(detail['input'])}",
    "int_": _no_integer,
    "too_short": lambda detail, _: _length(detail, "at least", "min_length"),
    "too_long": lambda detail, _: _length(detail, "at most", "max_length"),
    "string_too_short": lambda detail, _: f"must have at least {detail['ctx']['min_length']} character(s)",
    "string_too_long": lambda detail, _: f"must have at most {detail['ctx']['max_length']} characters",
    "timezone_aware": lambda detail, _: f"must be {TIME_WORDS}, not {_shown(detail['input'])}",
    "datetime_": lambda detail, _: f"must be {TIME_WORDS}, not {_shown(detail['input'])}",
    "model_": _no_mapping,
    "dict_type": _no_mapping,
    "list_type": _no_list,
}
"""By the beginning of pydantic's name of an error."""


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str | int | float) else _kind(value)


def _kind(value: Any) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), type(value).__name__)


def _members(model: type[BaseModel], parts: Sequence[int | str]) -> list[str]:
    """JSON names of the fields at a location."""
    current: Any = model
    for part in parts:
        if isinstance(part, str):
            fields = {info.alias or name: info.annotation for name, info in current.model_fields.items()}
            current = _inner(fields.get(part))
        if current is None:
            return []
    return [info.alias or name for name, info in current.model_fields.items()]


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside an optional, annotated or list type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_inner, typing.get_args(annotation))), None)
