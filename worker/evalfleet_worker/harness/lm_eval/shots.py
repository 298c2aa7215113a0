"""Few-shot examples: never the document itself, and enough of them."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError

COMPARED = 200
"""Documents of lm-eval's own tasks that are looked for among the examples."""


def separate_shots(name: str, task: Any, own: bool) -> str | None:
    """Let lm-eval leave a document out of its own examples where it would not.

    lm-eval compares the names of the splits only, so that a config without a few-shot split shows documents their own
    answers. Its own tasks stay as they are.

    Returns:
        A warning where a task of lm-eval shows documents themselves.

    Raises:
        RunError: INVALID_TASK when there are too few examples.
    """
    count = task.config.num_fewshot or 0
    if count == 0 or not hasattr(task, "sampler"):
        return None
    pool = {_spelt(document) for document in task.sampler.df}
    documents = task.eval_docs if own else (task.eval_docs[i] for i in range(min(COMPARED, len(task.eval_docs))))
    itself = task.fewshot_cfg.split != task.config.test_split and _shared(documents, pool)
    if itself and not own:
        return f"task {name!r}: its few-shot examples come from the documents that are scored (as in lm-eval)"
    if itself:
        task.fewshot_cfg.split = task.config.test_split  # what lm-eval looks at to leave the document out
    leaves_out = task.fewshot_cfg.split == task.config.test_split
    if len(task.sampler.df) < count + leaves_out:
        raise RunError(
            FailureReason.INVALID_TASK,
            f"task {name!r}: {count} few-shot examples{' beside the document itself' if leaves_out else ''} need as "
            f"many documents, and there are {len(task.sampler.df)}: lower numFewShot, or give a fewshot_split",
        )
    return None


def demonstrate_first_gold(task: Any) -> None:
    """Let a demonstration show the text of the first right choice where the gold is a list of indices.

    lm-eval takes the index itself for the text, and stops.
    """
    build: Callable[..., Any] = task.build_qa_turn

    def build_qa_turn(*, c: Any = None, a: Any = None, **parts: Any) -> Any:
        indices = c and isinstance(a, list) and a and isinstance(a[0], int)
        return build(c=c, a=a[0] if indices else a, **parts)

    task.build_qa_turn = build_qa_turn


def _shared(documents: Iterable[Any], pool: set[str]) -> bool:
    return any(_spelt(document) in pool for document in documents)


def _spelt(document: Any) -> str:
    return json.dumps(document, sort_keys=True, default=str)
