"""Which run a manifest is now: named after the manifest and after the content of its model and data.

A checkpoint that was replaced in place, or a row that was removed, is another run of the same manifest; else the result
of the old one would be shown as if it were of the new.
"""

import hashlib
import json
from dataclasses import replace

from evalfleet.local.run.display import Display
from evalfleet.local.run.localrun import LocalRun
from evalfleet.local.run.steps import run_step
from evalfleet_worker.protocol import RunError, RunIdentity, to_json

CHANGED = "the model or the data changed since this was run: `evalfleet run` evaluates them as they are now"


def identified(run: LocalRun, display: Display) -> LocalRun:
    """The run under the name that the content of its model and data gives it.

    Raises:
        RunError: model or data cannot be found or read.
    """
    content = run_step(run.prepare(), "identity", RunIdentity, display)
    digest = hashlib.blake2b(json.dumps(to_json(content), sort_keys=True).encode(), digest_size=6).hexdigest()
    return _named(run, f"{run.spec.run_id}-{digest}")


def to_show(run: LocalRun, display: Display) -> tuple[LocalRun, tuple[str, ...]]:
    """The run whose results are meant, and what a person should know: the last one here, else what would run now.

    Raises:
        RunError: nothing was run here, and model or data cannot be found or read.
    """
    last = run.last_finished()
    try:
        now = identified(run, display)
    except RunError as error:
        if last is None:
            raise
        return _named(run, last), (f"model or data cannot be read any more: {error.message}",)
    if last is None or last == now.spec.run_id:
        return now, ()
    return _named(run, last), () if _content_of(last) == _content_of(now.spec.run_id) else (CHANGED,)


def _content_of(run_id: str) -> str:
    """The part of a run's name that model and data gave it; the rest is the manifest and the options."""
    return run_id.rpartition("-")[2]


def _named(run: LocalRun, run_id: str) -> LocalRun:
    return replace(run, spec=replace(run.spec, run_id=run_id))
