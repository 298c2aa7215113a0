"""Model digest: two folders with equal digests give equal answers, whatever the model is called. Torch-free.

Digest = blake2b-128 over the sorted per-tensor hashes, the forward-relevant config, and dtype, quantization, adapter.
Sharding, file names and tensor order do not matter.
"""

import hashlib
import json
import mmap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from evalfleet_worker.model.files import read_json, weight_files
from evalfleet_worker.model.memo import remembered
from evalfleet_worker.model.weights_header import TensorHeader, read_headers
from evalfleet_worker.protocol import ModelSpec

NOT_FORWARD_RELEVANT = ("_name_or_path", "transformers_version", "architectures", "use_cache", "dtype", "torch_dtype")
CHUNK_BYTES = 1 << 22
SAMPLE_BYTES = 4096
SAMPLED_TENSORS = 512

ReadRanges = Callable[[Sequence[tuple[Path, int, int]]], list[bytes]]
"""Bytes [begin, end) of files, in the order asked."""


def model_digest(folder: Path, spec: ModelSpec, weights: str) -> str:
    """Hex digest (16 bytes) of a model as `spec` loads it.

    Args:
        folder: with the config.
        spec: what is asked for.
        weights: digest of all weights.
    """
    return hashed({"weights": weights, **_described(folder, spec)})


def model_fingerprint(folder: Path, spec: ModelSpec, headers: Sequence[TensorHeader], read: ReadRanges) -> str:
    """Hex digest (16 bytes) of the config, all headers and samples of the weights: cheap enough for every start.

    Training changes every tensor, so that another model under the same name is noticed; it is no proof of equality.
    The tensors that are sampled are drawn by their names, the same everywhere.
    """
    total = hashlib.blake2b(json.dumps(_described(folder, spec), sort_keys=True).encode(), digest_size=16)
    for header in sorted(headers, key=lambda header: header.name):
        total.update(json.dumps([header.name, header.dtype, header.shape]).encode())
    sampled = sorted(headers, key=lambda header: _hex(header.name.encode()))[:SAMPLED_TENSORS]
    ranges = [
        (header.file, begin, min(begin + SAMPLE_BYTES, header.end))
        for header in sampled
        for begin in (header.begin, (header.begin + header.end) // 2)
    ]
    for content in read(ranges):
        total.update(content)
    return total.hexdigest()


def read_local(ranges: Sequence[tuple[Path, int, int]]) -> list[bytes]:
    """Bytes [begin, end) of files on this machine, in the order asked."""
    return [_read_local(*wanted) for wanted in ranges]


def _read_local(file: Path, begin: int, end: int) -> bytes:
    with file.open("rb") as stream:
        stream.seek(begin)
        return stream.read(end - begin)


def _described(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """What decides an answer besides the weights."""
    config = {key: value for key, value in read_json(folder / "config.json").items() if key not in NOT_FORWARD_RELEVANT}
    return {"config": config, "dtype": spec.dtype, "quantization": spec.quantization, "adapter": spec.adapter_uri}


def weights_digest(folder: Path, cache: Path) -> str:
    """Hex digest of all tensors (name, type, shape, bytes), read once per node and state of the files."""
    files = weight_files(folder)
    headers = [header for file in files for header in read_headers(file)]
    described = _hex(json.dumps([[header.name, header.dtype, header.shape] for header in headers]).encode())
    return remembered("weights", files, cache, lambda: _hash_tensors(headers), described)


def _hash_tensors(headers: list[TensorHeader]) -> str:
    total = hashlib.blake2b(digest_size=16)
    for header in sorted(headers, key=lambda header: header.name):
        total.update(_hash_tensor(header))
    return total.hexdigest()


def _hash_tensor(header: TensorHeader) -> bytes:
    described: Any = [header.name, header.dtype, header.shape]
    hashed = hashlib.blake2b(json.dumps(described).encode(), digest_size=16)
    with header.file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for begin in range(header.begin, header.end, CHUNK_BYTES):
            hashed.update(content[begin : min(begin + CHUNK_BYTES, header.end)])
    return hashed.digest()


def hashed(content: Any) -> str:
    """Hex digest (16 bytes) of a JSON value."""
    return _hex(json.dumps(content, sort_keys=True).encode())


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
