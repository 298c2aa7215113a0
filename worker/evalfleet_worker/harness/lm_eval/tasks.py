"""lm-eval's tasks as `simple_evaluate` prepares them: overrides, seeds and the requests in their order of execution."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from evalfleet_worker.harness.data import data_folder
from evalfleet_worker.harness.lm_eval.owndata import is_own
from evalfleet_worker.harness.lm_eval.refuse import FILE_FORMATS, check_task_config, unsafe_code
from evalfleet_worker.harness.lm_eval.seeds import seed_generators
from evalfleet_worker.harness.lm_eval.shots import demonstrate_first_gold, separate_shots
from evalfleet_worker.harness.startup import let_torch_in
from evalfleet_worker.protocol import FailureReason, LmEvalSpec, RunError, RunSpec


@dataclass(frozen=True, slots=True)
class LoadedTasks:
    """What `TaskManager.load` returns, with lm-eval's overrides applied."""

    tasks: dict[str, Any]
    groups: dict[str, Any]
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The form that `lm_eval.evaluator.evaluate` takes."""
        children = {name: group.child_names for name, group in self.groups.items()}
        return {"tasks": self.tasks, "groups": self.groups, "group_map": children}


def load_tasks(spec: LmEvalSpec, run: RunSpec, replaying: bool = False) -> LoadedTasks:
    """Load the task, group or inline config of an evaluation; replaying needs no data files.

    Raises:
        RunError: unknown task, refused config, or unreadable data.
    """
    seed_generators()
    loaded = _load(spec, run, replaying)
    warnings = []
    for name, task in loaded.tasks.items():
        _check_task(name, task, run)
        _apply_overrides(task, spec)
        demonstrate_first_gold(task)
        warnings.append(separate_shots(name, task, is_own(task, spec)))
    return replace(loaded, warnings=tuple(warning for warning in warnings if warning))


def build_requests(loaded: LoadedTasks, spec: LmEvalSpec, model: Any) -> None:
    """Let every task build its requests, with the arguments that `evaluate` gives it.

    Raises:
        RunError: INVALID_TASK, naming the task, for what lm-eval cannot build.
    """
    for name, task in loaded.tasks.items():
        chosen = chosen_samples(name, task, spec)
        try:
            task.build_all_requests(
                limit=spec.limit, samples=chosen, rank=0, world_size=1, **prompt_options(spec), **_template(spec, model)
            )
        except RunError:
            raise
        except Exception as error:  # lm-eval and functions of tasks raise anything
            let_torch_in(error)
            raise RunError(
                FailureReason.INVALID_TASK, f"task {name!r}: prompts cannot be built: {type(error).__name__}: {error}"
            ) from error


def chosen_samples(name: str, task: Any, spec: LmEvalSpec) -> list[int] | None:
    """The indices of the documents that are asked for; None = all, or the first `limit`.

    Raises:
        RunError: INVALID_TASK for an index that the task does not have.
    """
    if spec.samples is None:
        return None
    chosen, count = sorted(set(spec.samples)), len(task.eval_docs)
    if chosen[-1] >= count:
        raise RunError(
            FailureReason.INVALID_TASK,
            f"samples: task {name!r} has no document {chosen[-1]}; it has {count}, counted from 0",
        )
    return chosen


def prompt_options(spec: LmEvalSpec) -> dict[str, Any]:
    """The options of `evaluate` that shape prompts; few-shot examples are turns by default, as in lm-eval's CLI."""
    as_turns = spec.few_shot_as_multiturn
    return {
        "system_instruction": spec.system_instruction,
        "apply_chat_template": spec.apply_chat_template,
        "fewshot_as_multiturn": spec.apply_chat_template if as_turns is None else as_turns,
    }


def template_arguments(spec: LmEvalSpec) -> dict[str, Any]:
    """Arguments of the chat template, as HFLM puts them together."""
    thinking = {} if spec.enable_thinking is None else {"enable_thinking": spec.enable_thinking}
    return {**spec.chat_template_arguments, **thinking}


def _template(spec: LmEvalSpec, model: Any) -> dict[str, Any]:
    if not spec.apply_chat_template:
        return {"chat_template": None, "tokenizer_name": ""}
    return {"chat_template": model.apply_chat_template, "tokenizer_name": model.tokenizer_name}


def calls(loaded: LoadedTasks) -> dict[str, list[Any]]:
    """lm-eval's instances by request type in the order in which `evaluate` gives them to a model, repeats included."""
    by_type: dict[str, list[Any]] = {}
    for task in loaded.tasks.values():
        for instance in task.instances:
            by_type.setdefault(instance.request_type, []).extend([instance] * instance.repeats)
    return by_type


def call_digest(calls: dict[str, list[Any]]) -> str:
    """Hex digest of the calls that lm-eval makes: type, order and arguments."""
    digest = hashlib.blake2b(digest_size=16)
    for kind in sorted(calls):
        digest.update(f"{kind}:{len(calls[kind])}\n".encode())
        for instance in calls[kind]:
            digest.update(json.dumps(instance.args, sort_keys=True, default=str).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _load(spec: LmEvalSpec, run: RunSpec, replaying: bool) -> LoadedTasks:
    try:
        if spec.task_config is not None:
            check_task_config(spec.task_config, run)
            manager = _manager(run.model.uri, _names_tasks(spec.task_config))
            item = _build_inline(manager, _prepared(spec.task_config, None if replaying else data_folder(run)))
        else:
            manager = _manager(run.model.uri, include_defaults=True)
            item = spec.task
        loaded = manager.load([item] if not isinstance(item, list) else item)
    except RunError:
        raise
    except Exception as error:  # lm-eval and datasets raise anything for a bad config or file
        let_torch_in(error)
        raise _load_error(spec, error) from error
    return LoadedTasks(loaded["tasks"], loaded["groups"])


@lru_cache(maxsize=2)
def _manager(model: str, include_defaults: bool) -> Any:
    """lm-eval's index of tasks; with the defaults it reads thousands of files, so that it is kept."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=include_defaults, metadata={"pretrained": model, "tokenizer": model})


def _build_inline(manager: Any, config: dict[str, Any]) -> Any:
    from lm_eval.tasks._index import TaskIndex

    return manager._factory.build(TaskIndex.entry_from_config(config), overrides=None, registry=manager._index)


def _names_tasks(config: Mapping[str, Any]) -> bool:
    """Whether a group refers to tasks that ship with lm-eval; else its index of thousands of files is not read."""
    members = config.get("task")
    if not isinstance(members, list):
        return False
    return any(isinstance(member, str) or (isinstance(member, Mapping) and _names_tasks(member)) for member in members)


def _prepared(config: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """The config as lm-eval can take it: `data_files` absolute below the data folder, no temperature that is null."""
    result = deepcopy(dict(config))
    _prepare(result, folder)
    return result


def _prepare(config: dict[str, Any], folder: Path | None) -> None:
    generation = config.get("generation_kwargs")
    if isinstance(generation, dict) and generation.get("temperature", 0) is None:
        del generation["temperature"]
    kwargs = config.get("dataset_kwargs") or {}
    if folder is not None and config.get("dataset_path", FILE_FORMATS[0]) in FILE_FORMATS and "data_files" in kwargs:
        kwargs["data_files"] = _absolute(kwargs["data_files"], folder)
    members = config.get("task")
    for member in members if isinstance(members, list) else ():
        if isinstance(member, dict):
            _prepare(member, folder)


def _absolute(files: Any, folder: Path) -> Any:
    if isinstance(files, str):
        return str(folder / files)
    if isinstance(files, Mapping):
        return {split: _absolute(member, folder) for split, member in files.items()}
    return [_absolute(member, folder) for member in files]


def _load_error(spec: LmEvalSpec, error: Exception) -> RunError:
    config = spec.task_config or {}
    name = spec.task or config.get("group") or config.get("task")
    text = " / ".join(f"{type(cause).__name__}: {cause}" for cause in _causes(error))
    kind = type(error).__module__ + "." + type(error).__name__
    if isinstance(error, OSError) or kind.startswith(("datasets.", "huggingface_hub.", "pyarrow.")):
        return RunError(FailureReason.DATASET_UNREADABLE, f"task {name!r}: its data cannot be read: {text}")
    if isinstance(error, KeyError) and "not a registered" in str(error):
        return RunError(FailureReason.INVALID_TASK, f"there is no lm-eval task, group or tag called {name!r}")
    return RunError(FailureReason.INVALID_TASK, f"task {name!r}: {text}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: `datasets` says what is wrong in the last one."""
    yield error
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


def _check_task(name: str, task: Any, run: RunSpec) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise RunError(FailureReason.UNSUPPORTED_TASK, f"task {name!r}: images and audio are not supported yet")
    if getattr(task, "UNSAFE_CODE", False) and not run.allow_unsafe_code:
        raise unsafe_code(f"task {name!r}")


def _apply_overrides(task: Any, spec: LmEvalSpec) -> None:
    """The overrides of `simple_evaluate`, in its order."""
    if task.get_config("output_type") == "generate_until" and spec.generation:
        task.set_config(key="generation_kwargs", value=dict(spec.generation), update=True)
    if spec.num_few_shot is not None and task.get_config("num_fewshot") != 0:
        task.set_config(key="num_fewshot", value=spec.num_few_shot)
    elif task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    if spec.repeats is not None:
        task.set_config(key="repeats", value=spec.repeats)
    if spec.predict_only:
        task.override_metric(metric_name="bypass")
    task.set_fewshot_seed(seed=spec.few_shot_seed)
