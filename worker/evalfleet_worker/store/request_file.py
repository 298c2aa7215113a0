"""requests.parquet read by row group: one range read per unit, the footer once per process."""

import io

import pyarrow.parquet as pq

from evalfleet_worker.requests import Request, Unit
from evalfleet_worker.store.objects import Objects
from evalfleet_worker.tables import requests_of

FOOTER_GUESS_BYTES = 64 * 1024


class RequestFile:
    """The requests of a plan, unit by unit."""

    def __init__(self, objects: Objects, path: str) -> None:
        self._window = _Window(objects, path)
        self._window.load(max(0, self._window.size - FOOTER_GUESS_BYTES), self._window.size)
        self._file = pq.ParquetFile(self._window)

    def read(self, unit: Unit) -> list[Request]:
        """The requests of a unit.

        Raises:
            OSError or ValueError: damaged file.
        """
        group = self._file.metadata.row_group(unit.index)
        columns = [group.column(index) for index in range(group.num_columns)]
        starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        self._window.load(min(starts), max(ends))
        return requests_of(self._file, unit)


class _Window(io.RawIOBase):
    """A read-only file over range reads that serves what was loaded last from memory."""

    def __init__(self, objects: Objects, path: str) -> None:
        super().__init__()
        self._objects = objects
        self._path = path
        self.size = objects.size(path)
        self._position = 0
        self._start = 0
        self._content = b""

    def load(self, start: int, end: int) -> None:
        self._start, self._content = start, self._objects.get_range(self._path, start, end)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        end = self.size if size < 0 else min(self.size, self._position + size)
        if not self._start <= self._position <= end <= self._start + len(self._content):
            self.load(self._position, max(end, self._position + 1))
        offset = self._position - self._start
        content = self._content[offset : offset + end - self._position] if end > self._position else b""
        self._position += len(content)
        return content
