"""The documents of lm-eval tasks, recorded in the plan and given back to the replay.

Data sets are loaded once, by the plan. What each task made of a split (after `process_docs`) is stored as Parquet
and handed out again when the finisher builds the task anew, so that it never asks the hub and a task that shuffles
cannot shuffle otherwise.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SPLIT_METHODS = ("training_docs", "validation_docs", "test_docs", "fewshot_docs")
NONE = b"null"


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


@contextmanager
def documents_of_tasks(store: DocumentStore) -> Iterator[None]:
    """While active, lm-eval's tasks take their documents through `store`."""
    from lm_eval.api.task import ConfigurableTask

    originals = {method: getattr(ConfigurableTask, method) for method in SPLIT_METHODS}
    original_download = ConfigurableTask.download

    def download(task: Any, *args: Any, **kwargs: Any) -> None:
        if store.replaying:
            task.dataset = {}
        else:
            original_download(task, *args, **kwargs)

    def remembered(method: str) -> Callable[[Any], Any]:
        return lambda task: store.split(f"{task.config.task}.{method}", lambda: originals[method](task))

    ConfigurableTask.download = download
    for method in SPLIT_METHODS:
        setattr(ConfigurableTask, method, remembered(method))
    try:
        yield
    finally:
        ConfigurableTask.download = original_download
        for method, original in originals.items():
            setattr(ConfigurableTask, method, original)


def _write(documents: Any) -> bytes:
    import datasets
    import pyarrow.parquet as pq

    if not isinstance(documents, datasets.Dataset):
        return json.dumps(documents).encode()
    buffer = io.BytesIO()
    pq.write_table(documents.with_format("arrow")[:], buffer, compression="zstd")
    return buffer.getvalue()


def _read(content: bytes) -> Any:
    import datasets
    import pyarrow.parquet as pq

    if not content.startswith(b"PAR1"):
        return json.loads(content)
    return datasets.Dataset(pq.read_table(io.BytesIO(content)))
