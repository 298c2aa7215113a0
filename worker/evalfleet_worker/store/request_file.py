"""requests.parquet read by row group: one range read for some neighbouring units, the footer once per process."""

import io

import pyarrow.parquet as pq

from evalfleet_worker.requests import Request, Unit
from evalfleet_worker.store.objects import Objects
from evalfleet_worker.tables import requests_of

FOOTER_GUESS_BYTES = 64 * 1024
READ_AHEAD_UNITS = 4
"""A worker walks through neighbouring units, so what follows is probably its own."""
READ_AHEAD_BYTES = 4 * 2**20
"""Units that are larger than this together are read one by one."""


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
        start, end = self._place(unit.index)
        if not self._window.holds(start, end):
            self._window.load(start, self._end_of_neighbours(unit.index))
        return requests_of(self._file, unit)

    def _place(self, group: int) -> tuple[int, int]:
        """First and last (exclusive) byte of a row group."""
        metadata = self._file.metadata.row_group(group)
        columns = [metadata.column(index) for index in range(metadata.num_columns)]
        starts = [column.dictionary_page_offset or column.data_page_offset for column in columns]
        ends = [start + column.total_compressed_size for start, column in zip(starts, columns, strict=True)]
        return min(starts), max(ends)

    def _end_of_neighbours(self, first: int) -> int:
        start, end = self._place(first)
        for group in range(first + 1, min(first + READ_AHEAD_UNITS, self._file.num_row_groups)):
            further = self._place(group)[1]
            if further - start > READ_AHEAD_BYTES:
                break
            end = further
        return end


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

    def holds(self, start: int, end: int) -> bool:
        return self._start <= start and end <= self._start + len(self._content)

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
