"""From committed units to published results; may be run again at any time."""

import time
from collections.abc import Callable
from pathlib import Path

from evalfleet_worker.finish.evaluations import Committed, score_evaluations
from evalfleet_worker.finish.merge import merge_units
from evalfleet_worker.finish.report import files_of, incomplete, report_of
from evalfleet_worker.harness.startup import hide_torch
from evalfleet_worker.protocol import FailureReason, FinishReport, RunError, RunSpec, from_json, to_json
from evalfleet_worker.store.run_store import RunStore

Progress = Callable[[str], None]


def finish_run(
    run: RunSpec, store: RunStore, cache: Path, own_process: bool = False, progress: Progress = lambda _: None
) -> FinishReport:
    """Merge, replay and publish; a published run is returned as it is.

    Args:
        run: what to finish.
        store: where plan and units lie and results are published.
        cache: node cache with models; only chat templates need it.
        own_process: nothing else happens in this process, so it may go without torch (starts in a third of the time).
        progress: takes one line about what is being done.

    Returns:
        The report; `outcome` is a `RunOutcome`. An evaluation that fails costs its own score alone.

    Raises:
        RunError: the run is not planned, a part is damaged, PLAN_CHANGED, or the reason why no evaluation at all can
            be published: then the units stay, so that a mended version can finish them.
    """
    published = store.read_summary()
    if published is not None:
        return from_json(FinishReport, published)
    started = time.monotonic()
    if own_process and not _renders_chats(run):
        hide_torch()
    plan = store.read_plan()
    if plan is None:
        raise RunError(FailureReason.INCOMPLETE, "the run has no plan yet: run the plan command first")
    progress(f"reading {len(plan.units)} units")
    merged = merge_units(store, plan)
    if merged.missing:
        published = store.read_summary()  # another finisher may be ahead and sweep the units away
        return incomplete(run, plan, merged) if published is None else from_json(FinishReport, published)
    committed = Committed.of(run, store, plan, merged)
    scores = score_evaluations(committed, cache, progress)
    report = report_of(committed, scores, started)
    return from_json(FinishReport, store.publish_results(files_of(committed, scores), to_json(report)))


def _renders_chats(run: RunSpec) -> bool:
    """Whether the tokenizer is needed, so that a GGUF may have to be converted on this node, with torch."""
    return any(spec.lm_eval is not None and spec.lm_eval.apply_chat_template for spec in run.evaluations)
