"""Model digest: two folders with equal digests give equal answers, whatever the model is called. Torch-free.

Digest = blake2b-128 over the sorted per-tensor hashes, the forward-relevant config, and dtype, quantization, adapter.
Sharding, file names and tensor order do not matter.
"""

import hashlib
import json
import mmap
import secrets
from pathlib import Path
from typing import Any

from evalfleet_worker.model.files import read_json, weight_files
from evalfleet_worker.model.weights_header import TensorHeader, read_headers
from evalfleet_worker.protocol import ModelSpec

NOT_FORWARD_RELEVANT = ("_name_or_path", "transformers_version", "architectures", "use_cache", "dtype", "torch_dtype")
CHUNK_BYTES = 1 << 22
SAMPLE_BYTES = 4096


def model_digest(folder: Path, spec: ModelSpec, cache: Path) -> str:
    """Hex digest (16 bytes) of the model in `folder` as `spec` loads it.

    The hash of the weights is remembered in the cache under the files' names, sizes and change times.
    """
    content = {"weights": weights_digest(folder, cache), **_described(folder, spec)}
    return _hex(json.dumps(content, sort_keys=True).encode())


def model_fingerprint(folder: Path, spec: ModelSpec) -> str:
    """Hex digest (16 bytes) of the model's config and of samples of every tensor: cheap enough for every start.

    Training changes every tensor, so that another model under the same name is noticed; it is no proof of equality.
    """
    total = hashlib.blake2b(json.dumps(_described(folder, spec), sort_keys=True).encode(), digest_size=16)
    headers = [header for file in weight_files(folder) for header in read_headers(file)]
    for header in sorted(headers, key=lambda header: header.name):
        total.update(json.dumps([header.name, header.dtype, header.shape]).encode())
        with header.file.open("rb") as stream:
            for begin in (header.begin, (header.begin + header.end) // 2):
                stream.seek(begin)
                total.update(stream.read(min(SAMPLE_BYTES, header.end - begin)))
    return total.hexdigest()


def _described(folder: Path, spec: ModelSpec) -> dict[str, Any]:
    """What decides an answer besides the weights."""
    config = {key: value for key, value in read_json(folder / "config.json").items() if key not in NOT_FORWARD_RELEVANT}
    return {"config": config, "dtype": spec.dtype, "quantization": spec.quantization, "adapter": spec.adapter_uri}


def weights_digest(folder: Path, cache: Path) -> str:
    """Hex digest of all tensors (name, type, shape, bytes), read once per node and state of the files."""
    files = weight_files(folder)
    state = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    memo = cache / "digests" / _hex(json.dumps(state).encode())
    if memo.exists():
        return memo.read_text("ascii")
    digest = _hash_tensors([header for file in files for header in read_headers(file)])
    memo.parent.mkdir(parents=True, exist_ok=True)
    fresh = memo.with_suffix(f".{secrets.token_hex(8)}")
    fresh.write_text(digest, "ascii")
    fresh.replace(memo)
    return digest


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


def _hex(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
