"""A model on a hub or in an object store, of which the plan fetches little: small files whole, weights by ranges.

Both are read through obstore: a hub is an HTTP server of files, and its listing knows their checksums.
"""

import fnmatch
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from evalfleet_worker.model.download import HUB_PATTERNS, OFFLINE, exclusive, explained, inside
from evalfleet_worker.model.files import weight_file_names, weight_map
from evalfleet_worker.model.locate import OBJECT_STORES
from evalfleet_worker.model.weights_header import TensorHeader, headers_of
from evalfleet_worker.waiting import tell_of_slow_hub

log = logging.getLogger(__name__)

WEIGHTS = (".safetensors", ".gguf")
FIRST_BYTES = 1 << 16
"""Read at once of a file of weights; most headers fit."""
HUB_SECONDS = 10.0
PARALLEL = 8

Range = tuple[Path, int, int]


@dataclass(frozen=True)
class RemoteModel:
    """Files below one address, as listed once.

    Attributes:
        uri: for messages.
        sizes: bytes by name.
        tags: what the listing says of a file's content: a checksum, an e-tag, or the time of its last change.
    """

    uri: str
    sizes: Mapping[str, int]
    tags: Mapping[str, str]
    store: Any = field(repr=False)

    @property
    def is_readable_here(self) -> bool:
        """Whether it has a config and no GGUF, which must be converted as a whole."""
        return "config.json" in self.sizes and not any(name.endswith(".gguf") for name in self.sizes)

    def identity(self, names: Sequence[str] | None = None) -> str:
        """Hash of names, sizes and tags of some files, else of all that belong to a model."""
        chosen = sorted(names if names is not None else [name for name in self.sizes if belongs_to_model(name)])
        content = [(name, self.sizes[name], self.tags[name]) for name in chosen]
        return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()

    def companions(self, cache: Path) -> Path:
        """Folder with all files of the model but its weights, fetched once per state of them."""
        names = [name for name in self.sizes if belongs_to_model(name) and not name.endswith(WEIGHTS)]
        target = cache / "models" / f"companions-{self.identity(names)}"
        target.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(target.with_suffix(".lock")):
            if not target.exists():
                self._fetch(names, target)
        return target

    def _fetch(self, names: Sequence[str], target: Path) -> None:
        fresh = Path(tempfile.mkdtemp(prefix="fetching-", dir=target.parent))
        try:
            for name in names:
                file = fresh / inside(name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self._read(name, 0, self.sizes[name]))
            fresh.rename(target)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def weight_names(self, companions: Path) -> list[str]:
        """Names of the files that hold the weights; see `files.weight_files`."""
        here = {name for name in self.sizes if name.endswith(".safetensors") and "/" not in name}
        return weight_file_names(here, weight_map(companions), self.uri)

    def headers(self, names: Sequence[str]) -> tuple[TensorHeader, ...]:
        """Headers of all tensors in these files.

        Raises:
            RunError: ModelUnreadable, when a file is damaged or cannot be read.
        """
        with ThreadPoolExecutor(PARALLEL) as pool:
            return tuple(header for found in pool.map(self._headers, names) for header in found)

    def _headers(self, name: str) -> list[TensorHeader]:
        size = self.sizes[name]
        first = self._read(name, 0, min(size, FIRST_BYTES))

        def read(begin: int, end: int) -> bytes:
            return first[begin:end] if end <= len(first) else self._read(name, begin, end)

        return headers_of(Path(name), size, read)

    def read_ranges(self, ranges: Sequence[Range]) -> list[bytes]:
        """Bytes [begin, end) of files, in the order asked."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(lambda wanted: self._read(str(wanted[0]), wanted[1], wanted[2]), ranges))

    def _read(self, name: str, begin: int, end: int) -> bytes:
        import obstore

        if begin == end:
            return b""
        with explained(f"{self.uri}/{name}"):
            return bytes(obstore.get_range(self.store, name, start=begin, end=end))


def open_remote(uri: str, revision: str | None) -> RemoteModel | None:
    """The listing of a hub's repository or of an object store's prefix; None for other addresses and without an answer.

    Without an answer the caller falls back on what the node has, which explains what is wrong.
    """
    scheme, _, rest = uri.partition("://")
    try:
        if scheme == "hf" and not any(os.environ.get(name, "") not in ("", "0") for name in OFFLINE):
            return _hub(uri, rest, revision)
        return _object_store(uri) if scheme in OBJECT_STORES else None
    except Exception as error:  # noqa: BLE001 - network libraries raise anything
        log.warning("%s cannot be listed (%s): the whole of it is looked for on this node", uri, type(error).__name__)
        return None


def _object_store(uri: str) -> RemoteModel | None:
    import obstore
    from obstore.store import from_url

    store = from_url(uri)
    objects = [entry for batch in obstore.list(store) for entry in batch]
    tags = {entry["path"]: str(entry["e_tag"] or entry["version"] or entry["last_modified"]) for entry in objects}
    return RemoteModel(uri, {entry["path"]: entry["size"] for entry in objects}, tags, store)


def _hub(uri: str, reference: str, revision: str | None) -> RemoteModel:
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils._headers import build_hf_headers
    from obstore.store import HTTPStore

    tell_of_slow_hub()
    name, _, pinned = reference.partition("@")
    info = HfApi().model_info(name, revision=pinned or revision, files_metadata=True, timeout=HUB_SECONDS)
    files = {file.rfilename: file for file in info.siblings or ()}
    tags = {name: file.lfs.sha256 if file.lfs else str(file.blob_id) for name, file in files.items()}
    store = HTTPStore.from_url(
        f"{constants.ENDPOINT}/{name}/resolve/{info.sha}",
        client_options={
            "default_headers": build_hf_headers(),
            "allow_http": constants.ENDPOINT.startswith("http://"),
        },
    )
    return RemoteModel(uri, {name: int(file.size or 0) for name, file in files.items()}, tags, store)


def belongs_to_model(name: str) -> bool:
    """Whether a file is part of a model: weights beside its config, small files as the hub's download takes them."""
    nested = "/" in name and PurePosixPath(name).name != "config.json"
    return not nested and any(fnmatch.fnmatch(name, pattern) for pattern in HUB_PATTERNS)
