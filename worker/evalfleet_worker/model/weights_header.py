"""Headers of safetensors files: names, types, shapes and byte ranges without reading the weights. Torch-free.

Format: 8 bytes little-endian header length, JSON header, then the data (https://github.com/huggingface/safetensors).
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalfleet_worker.protocol import FailureReason, RunError

LFS_POINTER = b"version https://git-lfs"
MAX_HEADER_BYTES = 100_000_000
BYTES_PER_VALUE = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """One stored tensor: where its bytes lie in `file` [begin, end) and what they mean."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def values(self) -> int:
        """Number of scalar values."""
        return math.prod(self.shape)


def read_headers(file: Path) -> list[TensorHeader]:
    """Headers of all tensors of one safetensors file on this machine; see `headers_of`."""
    try:
        with file.open("rb") as stream:

            def read(begin: int, end: int) -> bytes:
                stream.seek(begin)
                return stream.read(end - begin)

            return headers_of(file, file.stat().st_size, read)
    except OSError as error:  # a folder, or a link of a cache whose file is gone
        raise _unreadable(file, f"it cannot be read ({error.strerror})") from error


def headers_of(file: Path, size: int, read: Callable[[int, int], bytes]) -> list[TensorHeader]:
    """Headers of all tensors of one safetensors file.

    Args:
        file: its name, and where it lies if it is on this machine.
        size: bytes.
        read: bytes [begin, end) of it.

    Raises:
        RunError: ModelUnreadable, when the file is truncated, damaged or no safetensors file at all.
    """
    if read(0, min(size, len(LFS_POINTER))) == LFS_POINTER:
        raise _unreadable(file, "it is a pointer of Git LFS (`git lfs pull` fetches the file)")
    length = int.from_bytes(read(0, min(size, 8)), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise _unreadable(file, f"it has {size} bytes, its header claims {length}")
    try:
        content = json.loads(read(8, 8 + length))
    except ValueError as error:
        raise _unreadable(file, f"its header is no JSON ({error})") from error
    return _tensors(file, content, 8 + length, size)


def _tensors(file: Path, content: Any, data_begin: int, size: int) -> list[TensorHeader]:
    try:
        headers = [
            TensorHeader(
                name, entry["dtype"], tuple(entry["shape"]), file, *(data_begin + o for o in entry["data_offsets"])
            )
            for name, entry in content.items()
            if name != "__metadata__"
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise _unreadable(file, f"its header is not of this format ({type(error).__name__}: {error})") from error
    for header in headers:
        expected = header.values * BYTES_PER_VALUE.get(header.dtype, 0)
        if header.dtype in BYTES_PER_VALUE and header.end - header.begin != expected:
            raise _unreadable(file, f"tensor {header.name} has {header.end - header.begin} bytes instead of {expected}")
    end = data_begin
    for header in sorted(headers, key=lambda header: (header.begin, header.end)):
        if header.begin != end:
            raise _unreadable(file, f"tensor {header.name} begins at byte {header.begin} instead of {end}")
        end = header.end
    if end != size:
        what = f"{end - size} bytes of its data are missing" if end > size else f"{size - end} bytes follow its data"
        raise _unreadable(file, what)
    return headers


def _unreadable(file: Path, why: str) -> RunError:
    return RunError(
        FailureReason.MODEL_UNREADABLE,
        f"{file.name} is not a complete safetensors file: {why}; copy or download the model again ({file})",
    )
