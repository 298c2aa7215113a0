"""Models from the Hugging Face hub and from object stores, downloaded once into the node cache."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.waiting import tell_of_slow_hub

HUB_PATTERNS = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.gguf", "*/config.json")
"""Weights as safetensors or GGUF, configs and tokenizers; never pickled weights, never code."""
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
DOWNLOADED = ".complete"


def hub_snapshot(reference: str, revision: str | None, cache: Path) -> Path:
    """Folder of `ORGANISATION/NAME[@REVISION]`, downloaded (or found in the cache) by huggingface_hub.

    Raises:
        RunError: InvalidModelRef when hub or repository cannot be reached and the cache has no copy.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    name, _, pinned = reference.partition("@")
    tell_of_slow_hub()
    try:
        folder = snapshot_download(
            name,
            revision=pinned or revision,
            cache_dir=cache / "hub",
            allow_patterns=list(HUB_PATTERNS),
            local_files_only=any(os.environ.get(variable, "") not in ("", "0") for variable in OFFLINE),
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        message = f"hf://{reference} does not exist or needs a token (model.secretName with HF_TOKEN): {error}"
        raise RunError(FailureReason.INVALID_MODEL_REF, message.splitlines()[0]) from error
    except (LocalEntryNotFoundError, OSError, ValueError) as error:
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            f"hf://{reference} is not in this node's cache and the hub cannot be reached "
            f"({type(error).__name__}); check the network, or use file://, s3:// or a mounted volume",
        ) from error
    return Path(folder)


def object_store_copy(uri: str, cache: Path) -> Path:
    """Local copy of all files below an `s3://`, `gs://` or `az://` prefix (credentials from the environment).

    What was overwritten there since is copied anew. While the store is away the last copy serves;
    workers compare a fingerprint of the model with the planner's anyway.

    Raises:
        RunError: InvalidModelRef when nothing lies there, ModelUnreadable when the download fails.
    """
    known = cache / "models" / f"copy-{hashlib.blake2b(uri.rstrip('/').encode(), digest_size=8).hexdigest()}.last"
    try:
        name = f"copy-{_identity(uri)}"
    except RunError as error:
        if error.reason is FailureReason.MODEL_UNREADABLE and known.exists():
            return cache / "models" / known.read_text("ascii")
        raise
    target = cache / "models" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(known.with_suffix(".lock")):
        if not (target / DOWNLOADED).exists():
            _copy(uri, target)
        known.write_text(name, "ascii")
    return target


def _copy(uri: str, target: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix="downloading-", dir=target.parent))
    try:
        _download(uri, fresh)
        (fresh / DOWNLOADED).touch()
        shutil.rmtree(target, ignore_errors=True)
        fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock between processes of this node; it is released when the process dies."""
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _identity(uri: str) -> str:
    """Hash of the URI and of the names, sizes and e-tags below it."""
    import obstore
    from obstore.store import from_url

    with explained(uri):
        objects = [entry for batch in obstore.list(from_url(uri)) for entry in batch]
    if not objects:
        raise RunError(FailureReason.INVALID_MODEL_REF, f"there is no object below {uri}; check the URI")
    content = sorted((entry["path"], entry["size"], str(entry["e_tag"])) for entry in objects)
    return hashlib.blake2b(repr((uri.rstrip("/"), content)).encode(), digest_size=8).hexdigest()


def _download(uri: str, target: Path) -> None:
    import obstore
    from obstore.store import from_url

    with explained(uri):
        store = from_url(uri)
        for batch in obstore.list(store):
            for entry in batch:
                _stream(obstore.get(store, entry["path"]), target / inside(entry["path"]))


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Errors of an object store become a ModelUnreadable that names the address."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"{uri} cannot be downloaded: {error}") from error


def _stream(response: object, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        for chunk in response:  # type: ignore[attr-defined]
            stream.write(chunk)


def inside(name: str) -> PurePosixPath:
    """The object's name as a path that cannot leave its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RunError(FailureReason.MODEL_UNREADABLE, f"object name {name} leads out of the model's folder")
    return path
