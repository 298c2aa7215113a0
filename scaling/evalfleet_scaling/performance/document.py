"""A history as versioned JSON and back, below 1 MB: every measurement as it was, no statistics, nothing executable."""

import json
from typing import Any

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.performance.history import History, learn_all
from evalfleet_scaling.performance.interface import FinishedRun, Key, Work

VERSION = 1
LARGEST_BYTES = 1024 * 1024


class InvalidHistoryError(ScalingInputError):
    """Saved text is not a history of this version, or was damaged."""


def dump(history: History) -> str:
    """The history as JSON; `load` gives it back with identical predictions."""
    keys = list(dict.fromkeys(run.key for run in history.runs))
    number = {key: index for index, key in enumerate(keys)}
    content = {
        "version": VERSION,
        "keys": [[key.model, key.task, key.gpu, key.engine] for key in keys],
        "runs": [_row(run, number[run.key]) for run in history.runs],
    }
    return json.dumps(content, separators=(",", ":"))


def load(text: str) -> History:
    """The history that `dump` saved; every run passes the checks that it passed when it was learnt.

    Raises:
        InvalidHistoryError: no such text, another version, or a run that would be refused.
    """
    if len(text) > LARGEST_BYTES:
        raise InvalidHistoryError(f"{len(text)} characters are more than the {LARGEST_BYTES} that a history has")
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise InvalidHistoryError(f"version {content['version']}, this program writes {VERSION}: start anew")
        keys = [Key(*names) for names in content["keys"]]
        return learn_all(History(), (_run(row, keys) for row in content["runs"]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError) as problem:
        if isinstance(problem, InvalidHistoryError):
            raise
        raise InvalidHistoryError(f"not a saved history: {problem}") from problem


def _row(run: FinishedRun, key: int) -> list[Any]:
    work = run.work
    sizes = [work.flops, work.memory_bytes, work.bytes_read, work.other_seconds, work.units]
    return [run.run_id, key, run.finished_seconds, *sizes, run.scoring_seconds, run.memory_bytes, run.startup_seconds]


def _run(row: list[Any], keys: list[Key]) -> FinishedRun:
    run_id, key, finished, flops, memory, read, other, units, seconds, peak, startup = row
    if isinstance(key, bool) or not 0 <= key < len(keys):
        raise InvalidHistoryError(f"{run_id!r:.80}: there is no key number {key!r:.80}")
    return FinishedRun(run_id, keys[key], Work(flops, memory, read, other, units), finished, seconds, peak, startup)
