"""YAML as kubectl reads it: dates and clock times stay text, keys are text, nothing runs, mistakes have a place.

PyYAML's own loader makes dates of `2024-01-01`, 750 of `12:30` and text of `1e-3`, keeps the last of two equal keys
silently, and stops at the first `!tag`. A manifest must mean the same to `evalfleet run` and to `kubectl apply`.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

NODE_LIMIT = 200_000
"""Values of one document, aliases counted as often as they are used: a few lines of aliases can stand for billions."""
TRUE_WORDS = frozenset({"y", "yes", "true", "on"})
FALSE_WORDS = frozenset({"n", "no", "false", "off"})
INTEGER = re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|[0-9][0-9_]*)")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?\.inf|\.nan", re.IGNORECASE)
STANDARD = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a manifest: the path of its field, and what to do."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file: plain JSON values, and what in it has no such value."""

    value: Any
    problems: tuple[Problem, ...] = ()


class _Loader(yaml.SafeLoader):
    """Composes nodes; plain scalars are resolved by `plain_value`."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it

    def compose_scalar_node(self, anchor: Any) -> Any:
        """A scalar that knows whether it was written plainly, without quotes, block or tag."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        node: Any = super().compose_scalar_node(anchor)
        node.plain = event.style is None and event.implicit[0]
        return node


def read_yaml(content: bytes) -> Iterator[Document]:
    """The documents of a YAML or JSON file that hold anything; the last one says where the file ceases to be YAML."""
    as_json = _json(content)
    if as_json is not None:
        yield as_json
        return
    try:
        for node in yaml.compose_all(content, _Loader):
            reader = _Reader()
            value = reader.value(node, "")
            if value is not None or reader.problems:
                yield Document(value, tuple(reader.problems))
    except RecursionError:
        yield Document(None, (Problem("", "is nested too deeply, or an alias holds itself"),))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        yield Document(None, (Problem("", f"is not valid YAML: {_where(error)}"),))


def _json(content: bytes) -> Document | None:
    """A file that is JSON altogether: YAML does not allow its tabs."""
    if not content.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return Document(json.loads(content))
    except (ValueError, RecursionError):
        return None


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    advice = "; indent with spaces" if "\\t" in str(error) else ""
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', error)}{advice}"


@dataclass
class _Reader:
    """From nodes to values; remembers what has none."""

    problems: list[Problem] = field(default_factory=list)
    _seen: int = 0

    def value(self, node: Any, path: str) -> Any:
        """The JSON value of a node at a path."""
        self._seen += 1
        if self._seen > NODE_LIMIT:
            raise yaml.YAMLError(f"a document stands for more than {NODE_LIMIT} values: are its aliases meant so?")
        if not node.tag.startswith(STANDARD):
            return self._tagged(node, path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(member, f"{path}[{index}]") for index, member in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: Any, path: str) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, member in node.value:
            key = _key(key_node)
            if key == "<<" and key_node.plain:
                merged = {**self._merged(member, path), **merged}
                continue
            inner = f"{path}.{key}".lstrip(".")
            if key_node.plain and key != key_node.value:
                self._complain(inner, f"{key_node.value} is the truth value {key} without quotes: write it in quotes")
            if key in own:
                line = key_node.start_mark.line + 1
                self._complain(inner, f"stands here twice (again in line {line}): only one of them can be meant")
            own[key] = self.value(member, inner)
        return {**merged, **own}

    def _merged(self, node: Any, path: str) -> dict[str, Any]:
        parts = [self.value(part, path) for part in (node.value if isinstance(node, yaml.SequenceNode) else [node])]
        return {key: member for part in reversed(parts) if isinstance(part, dict) for key, member in part.items()}

    def _scalar(self, node: Any, path: str) -> Any:
        kind = node.tag.removeprefix(STANDARD)
        if kind not in ("str", "int", "float", "bool", "null"):
            return self._tagged(node, path)
        value = plain_value(node.value) if node.plain or kind != "str" else node.value
        if isinstance(value, float) and not math.isfinite(value):
            self._complain(path, f"{node.value} is no number that JSON can hold")
            return None
        return value

    def _tagged(self, node: Any, path: str) -> None:
        tag = node.tag.replace(STANDARD, "!!")
        told = f"{tag} {node.value[:60]}" if isinstance(node, yaml.ScalarNode) else tag
        self._complain(path, f"{told!r}: {_advice(tag)}")

    def _complain(self, path: str, message: str) -> None:
        self.problems.append(Problem(path, message))


def _key(node: Any) -> str:
    """Keys are text in JSON; kubectl writes `yes: 1` as `true: 1`."""
    if node.id != "scalar":
        raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=node.start_mark)
    value = plain_value(node.value) if node.plain else node.value
    return json.dumps(value) if isinstance(value, bool) else str(node.value)


def plain_value(text: str) -> Any:
    """What a plain scalar (without quotes) is to kubectl: null, a truth value, a number, or text."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text.lower() in TRUE_WORDS | FALSE_WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return text.lower() in TRUE_WORDS
    if NOT_FINITE.fullmatch(text):
        return float(text.lower().replace(".", ""))
    return _number(text)


def _number(text: str) -> int | float | str:
    digits = text.replace("_", "")
    if INTEGER.fullmatch(text):
        try:
            return int(digits, 8 if re.fullmatch(r"[-+]?0[0-7]+", digits) else 0)
        except ValueError:  # 08 is no octal number
            return int(digits, 10)
    if FLOAT.fullmatch(text):
        value = float(digits)
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return text


def _advice(tag: str) -> str:
    if tag in ("!function", "!include"):
        return (
            "a manifest holds no code and no files; it works only in task files of lm-eval: name such a task with "
            "lmEval.task, write the template in Jinja, or use a python evaluation"
        )
    return "a manifest holds text, numbers, truth values, lists and mappings; leave the tag out"
