"""What an inline task config may not contain, each with its reason.

A config comes from whoever may create an EvaluationJob; it must not run code, read foreign files or reach the
network. Configs of named tasks ship with lm-eval and are judged by what they load (`check_task`).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from evalfleet_worker.harness.lm_eval.shapes import check_shapes
from evalfleet_worker.protocol import FailureReason, RunError, RunSpec

FILE_FORMATS = ("json", "csv", "parquet", "text", "arrow")
"""`dataset_path` values that read files below `data.uri`; anything else is a data set of the hub."""

LOADER_OPTIONS = ("data_files", "field", "delimiter", "column_names", "encoding")
"""Options of `datasets.load_dataset` that an inline config may give: what the files hold, never how to get them."""
TASK_NAME = re.compile(r"[\w.,:()+\- ]{1,200}")
FUNCTION_KEYS = ("class", "custom_dataset", "process_docs", "process_results", "use_prompt")
PATH_KEYS = ("data_files", "data_dir")
MEDIA_KEYS = ("doc_to_image", "doc_to_audio")


def check_task_config(config: Mapping[str, Any], run: RunSpec) -> None:
    """Refuse what an inline config must not contain.

    Raises:
        RunError: with the key at fault and what to do instead.
    """
    if "task" not in config and "group" not in config:
        raise _invalid("an inline taskConfig needs a `task` name (or a `group` name with a list of tasks)")
    for path, key, value in _walk(config):
        _check_member(path, key, value, run)
    check_shapes(config)
    for path, task in _tasks(config):
        _check_name(path, task.get("task", task.get("group")))
        _check_dataset(path, task, run)


def _check_member(path: str, key: str, value: Any, run: RunSpec) -> None:
    if isinstance(value, str) and value.lstrip().startswith("!function"):
        raise _unsupported(f"{path}: `!function` is not allowed in an inline config; use a template or a named task")
    if key == "include":
        raise _unsupported(f"{path}: `include` is not allowed in an inline config; write the members out")
    if key == "trust_remote_code":
        raise RunError(FailureReason.REMOTE_CODE_FORBIDDEN, f"{path}: code of data sets is never run; remove the key")
    if key in FUNCTION_KEYS and value is not None:
        raise _unsupported(f"{path}: `{key}` needs Python code, which an inline config cannot carry; use a named task")
    if key in MEDIA_KEYS and value:
        raise _unsupported(f"{path}: tasks with images or audio are not supported yet")
    if key == "unsafe_code" and value and not run.allow_unsafe_code:
        raise unsafe_code(path)
    if key == "hf_evaluate" and value:
        raise _network_metric(path, run)
    if key in PATH_KEYS:
        for name in _strings(value):
            _check_relative(path, name)


def _network_metric(path: str, run: RunSpec) -> RunError:
    if run.offline:
        return _unsupported(f"{path}: metrics of the `evaluate` hub need the network, which `data.offline` forbids")
    return RunError(
        FailureReason.REMOTE_CODE_FORBIDDEN,
        f"{path}: metrics of the `evaluate` hub are downloaded code; use a metric that lm-eval has built in",
    )


def _check_relative(path: str, name: str) -> None:
    if "://" in name or name.startswith(("/", "~", "\\")) or ".." in PurePosixPath(name).parts:
        raise _unsupported(f"{path}: {name!r} must be a path below data.uri, without `..`")


def _check_name(path: str, name: Any) -> None:
    """Names become names of files."""
    if not isinstance(name, str) or not TASK_NAME.fullmatch(name) or ".." in name:
        raise _invalid(
            f"{path}task: the task name {str(name)[:80]!r} may hold letters, digits and _ . , : ( ) + - only"
        )


def _check_dataset(path: str, task: Mapping[str, Any], run: RunSpec) -> None:
    options = task.get("dataset_kwargs") or {}
    unknown = [] if not isinstance(options, Mapping) else sorted(set(options) - set(LOADER_OPTIONS))
    if unknown or not isinstance(options, Mapping):
        named = ", ".join(map(str, unknown)) or "no mapping"
        raise _unsupported(f"{path}dataset_kwargs: {named}; allowed are {', '.join(LOADER_OPTIONS)}")
    dataset = task.get("dataset_path")
    if dataset is None:
        return
    where = f"{path}dataset_path"
    if not isinstance(dataset, str) or dataset.startswith((".", "/", "~")) or ".." in dataset:
        raise _unsupported(f"{where}: {dataset!r} must be one of {', '.join(FILE_FORMATS)} or a data set's name")
    if dataset in FILE_FORMATS:
        if not (task.get("dataset_kwargs") or {}).get("data_files"):
            raise _invalid(f"{where}: {dataset!r} needs dataset_kwargs.data_files, paths below data.uri")
        if run.data_uri is None:
            raise _invalid(f"{where}: set data.uri to the folder that holds dataset_kwargs.data_files")
    elif dataset in _packaged_formats():
        raise _unsupported(f"{where}: {dataset!r} can read code or foreign files; use {', '.join(FILE_FORMATS)}")
    elif run.offline:
        raise RunError(
            FailureReason.DATASET_UNREADABLE,
            f"{where}: {dataset!r} is on the hub, which `data.offline` forbids; put its files below data.uri",
        )


def _packaged_formats() -> frozenset[str]:
    """Names that `datasets` takes for a format of its own instead of a data set: pandas reads pickles, for example."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return frozenset(_PACKAGED_DATASETS_MODULES) | {"generator", "sql", "spark", "folder_based_builder"}


def _tasks(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    members = config.get("task")
    if isinstance(members, list):
        inherited = {key: value for key, value in config.items() if key.startswith("dataset_")}
        for index, member in enumerate(members):
            if isinstance(member, Mapping):
                yield from _tasks({**inherited, **member}, f"{path}task[{index}].")
    else:
        yield path, config


def _walk(value: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    if isinstance(value, Mapping):
        for key, member in value.items():
            where = f"{path}.{key}" if path else str(key)
            yield where, str(key), member
            yield from _walk(member, where)
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield f"{path}[{index}]", "", member
            yield from _walk(member, f"{path}[{index}]")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _strings(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _strings(member)


def unsafe_code(what: str) -> RunError:
    """The refusal of an evaluation that executes generated or user code."""
    return RunError(
        FailureReason.UNSAFE_CODE_FORBIDDEN,
        f"{what}: executes code that the model or the user wrote; "
        "set confirmRunUnsafeCode in the job and allowUnsafeCode in the policy",
    )


def _unsupported(message: str) -> RunError:
    return RunError(FailureReason.UNSUPPORTED_TASK, message)


def _invalid(message: str) -> RunError:
    return RunError(FailureReason.INVALID_TASK, message)
