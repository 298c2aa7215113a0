"""From lm-eval's results to published numbers: every metric with n and an interval, every sample as a row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from evalfleet_worker.harness.interface import HarnessResult
from evalfleet_worker.harness.lm_eval.bootstrap import Bootstraps
from evalfleet_worker.harness.lm_eval.tasks import LoadedTasks
from evalfleet_worker.protocol import Result
from evalfleet_worker.stats.aggregate import NO_FORMULA, Aggregation, interval_of
from evalfleet_worker.stats.bootstrap import Bootstrap
from evalfleet_worker.stats.intervals import CONSTANT, Interval, normal_quantile
from evalfleet_worker.strict_json import strict_dumps

CLUSTER_KEY = "cluster"
"""`metadata.cluster` of a task names the document field that marks samples of one source."""

ENOUGH_DOCUMENTS = 10
"""From here on the same choice everywhere is no chance."""

ROW_KEYS = ("doc_id", "filter", "doc_hash", "prompt_hash", "target_hash")
JSON_KEYS = ("doc", "target", "arguments", "resps", "filtered_resps")


def published(
    evaluation: str, official: Mapping[str, Any], loaded: LoadedTasks, bootstraps: Bootstraps
) -> HarnessResult:
    """Results, rows and the official results file of an evaluated lm-eval task or group."""
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = official["samples"]
    # Groups first: where there is no room for all results, they are what is looked for.
    results = [result for name in loaded.groups for result in _group_results(evaluation, name, official)]
    results += [
        result
        for name, task in loaded.tasks.items()
        for result in _task_results(evaluation, name, task, official, bootstraps)
    ]
    group_of = _group_of(loaded, {result.task for result in results})
    results = [replace(result, group=group_of.get(result.task, "")) for result in results]
    rows = [_row(name, sample) for name in loaded.tasks for sample in samples[name]]
    counted = sum(len({sample["doc_id"] for sample in samples[name]}) for name in loaded.tasks)
    content = {key: value for key, value in official.items() if key != "samples"}
    return HarnessResult(results, rows, counted, plain(content), _one_choice_everywhere(loaded, samples))


def _group_of(loaded: LoadedTasks, published: set[str]) -> dict[str, str]:
    """The group of every task and group that is part of one; groups without numbers of their own do not count."""
    return {child: name for name, group in loaded.groups.items() if name in published for child in group.child_names}


def _one_choice_everywhere(loaded: LoadedTasks, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> tuple[str, ...]:
    """A warning for every multiple-choice task in which the model gives all documents the same choice."""
    found = ((name, _choices(samples[name])) for name, task in loaded.tasks.items() if _is_multiple_choice(task))
    return tuple(
        f"{name}: the model gives the same choice (number {choices[0]}) for all {len(choices)} documents"
        for name, choices in found
        if len(choices) >= ENOUGH_DOCUMENTS and len(set(choices)) == 1
    )


def _is_multiple_choice(task: Any) -> bool:
    return getattr(task, "OUTPUT_TYPE", None) == "multiple_choice"


def _choices(samples: Sequence[Mapping[str, Any]]) -> list[int]:
    """The most probable choice of every document with several, by the first filter."""
    first = samples[0]["filter"] if samples else ""
    answers = (_conditional(sample) for sample in samples if sample["filter"] == first)
    return [values.index(max(values)) for values in answers if len(values) > 1]


def _conditional(sample: Mapping[str, Any]) -> list[float]:
    """Log-probabilities of the choices; those without context, which mutual information adds, left out."""
    scored = list(zip(sample["arguments"], sample["filtered_resps"], strict=True))
    asked = [(arguments, answer) for arguments, answer in scored if arguments[0]] or scored
    return [answer[0] for _, answer in asked]


def _metrics(official: Mapping[str, Any], name: str) -> list[tuple[str, str, float, float | None]]:
    """(metric, filter, value, standard error) of a task or group, as lm-eval computed them."""
    found = official["results"].get(name, {})
    metrics = []
    for key, value in found.items():
        metric, comma, filter_name = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, Real):
            continue
        error = found.get(f"{metric}_stderr,{filter_name}")
        metrics.append((metric, filter_name, float(value), float(error) if isinstance(error, Real) else None))
    return metrics


def _task_results(
    evaluation: str, name: str, task: Any, official: Mapping[str, Any], bootstraps: Bootstraps
) -> list[Result]:
    results = []
    for metric, filter_name, value, error in _metrics(official, name):
        members = [s for s in official["samples"][name] if s["filter"] == filter_name and metric in s]
        values = [sample[metric] for sample in members]
        function = task.aggregation().get(metric)
        interval = interval_of(values, _aggregation(function), _clusters(task, members))
        interval = _with_official(interval, value, error, bootstraps.find(function, values))
        results.append(_result(evaluation, name, metric, filter_name, interval))
    return results


def _with_official(interval: Interval, value: float, error: float | None, drawn: Bootstrap | None) -> Interval:
    """lm-eval's value is the published one; where ours has no formula, the bootstrap or lm-eval's standard error."""
    if interval.method != NO_FORMULA:
        return replace(interval, value=value)
    if drawn is not None:
        return Interval(value, drawn.standard_error, drawn.low, drawn.high, interval.n, drawn.method)
    return _normal(value, error, interval.n, "lm-eval standard error, normal")


def _normal(value: float, error: float | None, n: int, method: str) -> Interval:
    """The normal interval of a standard error; none where that is not known or nought."""
    if error is None or not math.isfinite(error):
        return Interval(value, None, None, None, n, "no formula for its interval")
    if error == 0:
        return Interval(value, None, None, None, n, CONSTANT)
    half = normal_quantile(0.95) * error
    return Interval(value, error, value - half, value + half, n, method)


def _aggregation(function: Any) -> Aggregation:
    from lm_eval.api import metrics

    known = {
        metrics.mean: Aggregation.MEAN,
        metrics.perplexity: Aggregation.PERPLEXITY,
        metrics.weighted_perplexity: Aggregation.WEIGHTED_PERPLEXITY,
        metrics.bits_per_byte: Aggregation.BITS_PER_BYTE,
    }
    try:
        return known.get(function or metrics.mean, Aggregation.OTHER)
    except TypeError:
        return Aggregation.OTHER


def _clusters(task: Any, members: Sequence[Mapping[str, Any]]) -> list[str] | None:
    metadata = task.get_config("metadata") if hasattr(task, "get_config") else None
    field = metadata.get(CLUSTER_KEY) if isinstance(metadata, dict) else None
    return None if field is None else [str(sample["doc"].get(field)) for sample in members]


def _group_results(evaluation: str, name: str, official: Mapping[str, Any]) -> list[Result]:
    results = []
    for metric, filter_name, value, error in _metrics(official, name):
        n = int(
            official["results"][name].get("sample_count", {}).get(f"{metric},{filter_name}", 0)
            or _leaves(name, official)
        )
        interval = _normal(value, error, n, "lm-eval group aggregate, normal")
        results.append(_result(evaluation, name, metric, filter_name, interval))
    return results


def _leaves(name: str, official: Mapping[str, Any]) -> int:
    children = official.get("group_subtasks", {}).get(name)
    if children is None:
        return int(official["n-samples"].get(name, {}).get("effective", 0))
    return sum(_leaves(child, official) for child in children)


def _result(evaluation: str, task: str, metric: str, filter_name: str, interval: Interval) -> Result:
    return Result(
        evaluation=evaluation,
        metric=metric,
        value=interval.value,
        standard_error=interval.standard_error,
        low=interval.low,
        high=interval.high,
        n=interval.n,
        method=interval.method,
        filter=filter_name,
        task=task,
    )


def _row(task: str, sample: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {metric: plain(sample[metric]) for metric in sample["metrics"]}
    return {
        "task": task,
        **{key: sample[key] for key in ROW_KEYS},
        **{key: _json(sample[key]) for key in JSON_KEYS},
        "metrics": _json(metrics),
    }


def _json(value: Any) -> str:
    return strict_dumps(plain(value))


def plain(value: Any) -> Any:
    """JSON values of what lm-eval returns: numpy scalars as numbers, arrays as lists, what else it may hold as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(member) for member in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)
