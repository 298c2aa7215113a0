"""Reading a GGUF through transformers without parsing it four times.

transformers builds a `GGUFReader` for config, weights and tokenizer each and the tensor name map once per module of the
model; every element of the vocabulary goes through numpy.memmap, whose slices cost ten times those of a plain array.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def parsed_once() -> Iterator[None]:
    """Within the block each GGUF file is parsed once and each name map is built once, in this process only."""
    import gguf

    reader, name_map = gguf.GGUFReader, gguf.get_tensor_name_map
    gguf.GGUFReader = _remembering(_on_plain_arrays(reader))
    gguf.get_tensor_name_map = functools.cache(name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = reader, name_map


def _on_plain_arrays(reader: Any) -> Any:
    class PlainReader(reader):  # type: ignore[misc]
        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = np.asarray(mapped)

    return PlainReader


def _remembering(reader: Any) -> Any:
    read = functools.cache(reader)
    return lambda path, mode="r": read(str(Path(path).resolve()), mode)
