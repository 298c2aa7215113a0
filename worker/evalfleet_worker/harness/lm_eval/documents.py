"""The documents of lm-eval tasks, recorded in the plan and given back to the replay.

Data sets are loaded once, by the plan. What each task made of a split (after `process_docs`) is stored as Parquet
(as JSON where its rows were written as JSON or CSV) and handed out again when the task is built anew, so that it
never asks the hub and a task that shuffles cannot shuffle otherwise.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache as once
from typing import Any

from evalfleet_worker.harness.rows import Rows

SPLIT_METHODS = ("training_docs", "validation_docs", "test_docs", "fewshot_docs")


class DocumentStore:
    """Documents by task and split method. With `stored`, they come from there and no data set is loaded."""

    def __init__(self, stored: Mapping[str, bytes] | None = None) -> None:
        self.replaying = stored is not None
        self._stored = stored or {}
        self._documents: dict[str, Any] = {}

    def split(self, name: str, make: Callable[[], Any]) -> Any:
        """The documents called `name`: made once, or read from the stored ones."""
        if name not in self._documents:
            self._documents[name] = _read(self._stored[name]) if self.replaying else make()
        return self._documents[name]

    def files(self) -> dict[str, bytes]:
        """The recorded documents as files."""
        return {name: _write(documents) for name, documents in self._documents.items()}


Load = Callable[[Any, Callable[[], None]], None]
"""Gives a task its data set: the task, and lm-eval's own way to do so."""


@contextmanager
def documents_of_tasks(store: DocumentStore, load: Load = lambda _, download: download()) -> Iterator[None]:
    """While active, lm-eval's tasks take their documents through `store`, also those that Python classes build."""
    from lm_eval.api.task import ConfigurableTask

    original = ConfigurableTask.__init__

    def initialize(task: Any, *args: Any, **kwargs: Any) -> None:
        name = once(lambda: str(task.config.task or type(task).__name__))  # a class gets its name afterwards
        for method in SPLIT_METHODS:
            setattr(task, method, _remembered(store, name, method, getattr(task, method)))
        download = task.download
        if store.replaying:
            task.download = lambda *_, **__: setattr(task, "dataset", {})
        else:
            task.download = lambda *given, **named: load(task, lambda: download(*given, **named))
        original(task, *args, **kwargs)

    ConfigurableTask.__init__ = initialize
    try:
        yield
    finally:
        ConfigurableTask.__init__ = original


def _remembered(
    store: DocumentStore, name: Callable[[], str], method: str, make: Callable[[], Any]
) -> Callable[[], Any]:
    """The split method of one task, whatever class it is of: classes of task files have their own."""
    return lambda: store.split(f"{name()}.{method}", make)


def _write(documents: Any) -> bytes:
    import datasets
    import pyarrow.parquet as pq

    if isinstance(documents, Rows):
        return json.dumps({"rows": documents, "features": list(documents.features)}).encode()
    if not isinstance(documents, datasets.Dataset):
        return json.dumps(documents).encode()
    buffer = io.BytesIO()
    pq.write_table(documents.with_format("arrow")[:], buffer, compression="zstd")
    return buffer.getvalue()


def _read(content: bytes) -> Any:
    import datasets
    import pyarrow.parquet as pq

    if content.startswith(b"PAR1"):
        return datasets.Dataset(pq.read_table(io.BytesIO(content)))
    read = json.loads(content)
    return Rows(read["rows"], read["features"]) if isinstance(read, dict) else read
