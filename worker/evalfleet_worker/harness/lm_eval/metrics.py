"""Whether a config's metrics, aggregations and filters exist and fit what the task asks of a model."""

from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError

BY_OUTPUT_TYPE = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": (
        "acc",
        "acc_norm",
        "acc_bytes",
        "acc_mutual_info",
        "exact_match",
        "f1",
        "mcc",
        "brier_score",
        "likelihood",
    ),
    "generate_until": ("exact_match", "bleu", "chrf", "chrf++", "ter"),
}
"""What `ConfigurableTask.process_results` of lm_eval 0.4.13 computes; it leaves out or garbles any other."""
ANY_MATCH = (0, -1)
"""`group_select` takes one of the matches of a text; only the first and the last are there in every text."""


def check_metrics(name: str, task: Any) -> None:
    """Refuse metrics, aggregations and filters of a user's config that cannot work.

    Raises:
        RunError: INVALID_TASK, naming metric or filter and what there is.
    """
    for metric in task._metric_fn_list:
        _check_metric(name, metric, task)
    for filter_config in task.config.filter_list or ():
        _check_filter(name, filter_config)


def _check_metric(name: str, metric: str, task: Any) -> None:
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    fitting = BY_OUTPUT_TYPE[task.OUTPUT_TYPE]
    if metric not in fitting:
        raise _invalid(
            name, f"metric {metric!r} is not computed for output_type {task.OUTPUT_TYPE}; use {', '.join(fitting)}"
        )
    if task._aggregation_list.get(metric) is None:
        given = next((m.get("aggregation") for m in task.config.metric_list or () if m.get("metric") == metric), None)
        known = ", ".join(sorted(AGGREGATION_REGISTRY))
        raise _invalid(name, f"metric {metric!r}: there is no aggregation {given!r}; use one of {known}")


def _check_filter(name: str, config: Any) -> None:
    for number, step in enumerate(config.get("filter") or ()):
        selected = step.get("group_select", 0)
        if step.get("function") in ("regex", "multi_choice_regex", "regex_pos") and selected not in ANY_MATCH:
            raise _invalid(
                name,
                f"filter {config.get('name')!r}, step {number}, regex {step.get('regex_pattern')!r}: group_select "
                f"{selected} is out of range for an answer with fewer matches (it counts matches, not groups); "
                "use 0 for the first match or -1 for the last",
            )


def _invalid(task: str, words: str) -> RunError:
    return RunError(FailureReason.INVALID_TASK, f"task {task!r}, {words}")
