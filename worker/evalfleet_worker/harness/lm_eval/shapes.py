"""Whether the members of an inline config have the shape that lm-eval expects of them.

lm-eval takes them as they come: it stops at a bare TypeError, or keeps one of two filters with the same name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError


def check_shapes(config: Mapping[str, Any]) -> None:
    """Refuse members of a task, or of the tasks of a group, that are none of what they must be.

    Raises:
        RunError: INVALID_TASK, naming the member and what it must be.
    """
    name = config.get("group") or config.get("task")
    try:
        _check(config, "")
    except _ShapeError as error:
        raise RunError(FailureReason.INVALID_TASK, f"task {name!r:.80}, {error}") from None


class _ShapeError(Exception):
    """Says which member is not what it must be."""


def _check(config: Mapping[str, Any], path: str) -> None:
    members = config.get("task")
    if isinstance(members, list):
        _check_members(members, f"{path}task")
        for index, member in enumerate(members):
            if isinstance(member, Mapping):
                _check(member, f"{path}task[{index}].")
    for name in ("generation_kwargs", "fewshot_config"):
        if not isinstance(config.get(name) or {}, Mapping) or isinstance(config.get(name), list):
            raise _invalid(f"{path}{name}", config[name], "a mapping, such as {until: ['.'], max_gen_toks: 32}")
    for name, least in (("num_fewshot", 0), ("repeats", 1)):
        value = config.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise _invalid(f"{path}{name}", value, f"a whole number from {least}")
    for _ in _entries(config, path, "metric_list", "metric", str):
        pass
    filters = list(_entries(config, path, "filter_list", "name", str))
    _check_unique(f"{path}filter_list", [entry["name"] for entry in filters])
    for index, entry in enumerate(filters):
        for _ in _entries(entry, f"{path}filter_list[{index}].", "filter", "function", str):
            pass


def _entries(config: Mapping[str, Any], path: str, name: str, key: str, kind: type) -> Iterator[Mapping[str, Any]]:
    """The entries of a list of mappings that each need a `key`."""
    entries = config.get(name)
    wanted = f"a list of mappings with the key {key!r}"
    if entries is not None and not isinstance(entries, list):
        raise _invalid(f"{path}{name}", entries, wanted)
    for index, entry in enumerate(entries or ()):
        if not isinstance(entry, Mapping) or not isinstance(entry.get(key), kind):
            raise _invalid(f"{path}{name}[{index}]", entry, f"a mapping with the key {key!r}")
        yield entry


def _check_members(members: Sequence[Any], path: str) -> None:
    if not members:
        raise _invalid(path, members, "a list of at least one task")
    _check_unique(path, [m.get("task", m.get("group")) if isinstance(m, Mapping) else m for m in members])


def _check_unique(path: str, names: Sequence[Any]) -> None:
    twice = [name for name in names if isinstance(name, str) and names.count(name) > 1]
    if twice:
        raise _ShapeError(
            f"{path}: the name {twice[0]!r} stands twice, and the results of one would be lost: name them differently"
        )


def _invalid(path: str, value: Any, wanted: str) -> _ShapeError:
    return _ShapeError(f"{path}: {value!r:.80} is not {wanted}")
