"""Task configs are code: templates render in Jinja's sandbox, and only lm-eval's own metrics run.

lm-eval renders `doc_to_text` and its kind in an unsandboxed environment, in which
`{{ cycler.__init__.__globals__.os.popen('...').read() }}` runs a command. The environment is replaced before a
task is made; filters and behaviour stay the same.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import MetaPathFinder
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from evalfleet_worker.protocol import FailureReason, RunError

TEMPLATES = 256
"""Compiled templates that are kept."""


def sandbox_templates() -> None:
    """Replace lm-eval's Jinja environment by an immutable sandbox with the same filters and settings."""
    import lm_eval.utils

    if not isinstance(lm_eval.utils.env, ImmutableSandboxedEnvironment):
        lm_eval.utils.env = _sandboxed(lm_eval.utils.env)


@contextmanager
def remote_code(allowed: bool) -> Iterator[None]:
    """While active, no code of models or tokenizers runs unless allowed, also where a task of lm-eval trusts it."""
    import transformers.dynamic_module_utils as modules

    before = modules.get_class_in_module
    if not allowed:
        modules.get_class_in_module = _forbidden
    try:
        yield
    finally:
        modules.get_class_in_module = before


def _forbidden(class_name: str, module_path: Any, **_: Any) -> Any:
    raise RunError(
        FailureReason.REMOTE_CODE_FORBIDDEN,
        f"{module_path} is code of a tokenizer; set model.trustRemoteCode and let the policy allow remote code",
    )


@contextmanager
def metric_code(allowed: bool) -> Iterator[None]:
    """While active, no metric of the `evaluate` hub runs unless unsafe code is allowed: it is downloaded code."""
    if allowed:
        yield
        return
    refusal = _NoMetricCode()
    sys.meta_path.insert(0, refusal)
    try:
        yield
    finally:
        sys.meta_path.remove(refusal)


class _NoMetricCode(MetaPathFinder):
    """Refuses the modules into which `evaluate.load` puts what it downloads."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        """Nothing to say about any other module."""
        if name.split(".")[0] == "evaluate_modules":
            raise RunError(
                FailureReason.UNSUPPORTED_TASK,
                f"the task runs {name.rpartition('.')[2]!r}, a metric of the `evaluate` hub, which is downloaded code: "
                "set confirmRunUnsafeCode in the job and allowUnsafeCode in the policy",
            )


def refuse_hub_metrics() -> None:
    """Let lm-eval use its own metrics only: a name it does not know it would download, as code, and run."""
    import lm_eval.api.task as tasks
    from lm_eval.api.registry import get_metric, metric_registry

    def built_in(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in metric_registry:
            raise RunError(
                FailureReason.UNSUPPORTED_TASK,
                f"metric {name!r} is not built into lm-eval; metrics of the `evaluate` hub are downloaded code and are "
                f"not run. Built in: {', '.join(sorted(metric_registry))}",
            )
        return get_metric(name)

    tasks.get_metric = built_in


class _Sandbox(ImmutableSandboxedEnvironment):
    """Compiles a template once; lm-eval asks for the same few anew for every document."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._compiled = lru_cache(maxsize=TEMPLATES)(super().from_string)

    def from_string(self, source: Any, *args: Any, **named: Any) -> Any:
        """The compiled template."""
        if args or named or not isinstance(source, str):
            return super().from_string(source, *args, **named)
        return self._compiled(source)


def _printed(value: Any) -> Any:
    """What a template prints; `row.items` is the method of a dict, not its member, and prints an address."""
    if isinstance(value, BuiltinMethodType | MethodType | FunctionType):
        name = value.__name__
        raise TypeError(f"the template prints the method {name!r}: write row['{name}'] for a member, not row.{name}")
    return value


def _sandboxed(original: Any) -> ImmutableSandboxedEnvironment:
    sandboxed = _Sandbox(
        loader=original.loader,
        undefined=original.undefined,
        keep_trailing_newline=original.keep_trailing_newline,
        finalize=_printed,
    )
    sandboxed.filters.update(original.filters)
    return sandboxed
