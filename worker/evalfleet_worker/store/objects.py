"""Objects by path on a local directory, S3, GCS or Azure: create if absent, overwrite, get, list, delete.

Only these five operations are used, so that the protocol is the same on every backend.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import LocalStore, MemoryStore, from_url

from evalfleet_worker.protocol import FailureReason, RunError
from evalfleet_worker.store.errors import StoreUnavailableError
from evalfleet_worker.waiting import waiting_for

__all__ = ["Entry", "Objects", "ObstoreObjects", "StoreUnavailableError", "explain", "open_objects"]

FILE = "file://"
DELETE_BATCH = 1_000
"""What S3 takes in one call."""
QUICK_RETRIES: Any = {
    "max_retries": 2,
    "retry_timeout": timedelta(seconds=5),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=1), "base": 2},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed object; `stamp` changes whenever its content is written."""

    path: str
    stamp: str


class Objects(Protocol):
    """What the run store needs of a backend."""

    def create(self, path: str, content: bytes) -> bool:
        """Create an object; False when it exists already."""
        ...

    def put(self, path: str, content: bytes) -> None:
        """Create or overwrite an object."""
        ...

    def get(self, path: str) -> bytes | None:
        """Content, or None when absent."""
        ...

    def list(self, prefix: str) -> list[Entry]:
        """All objects below a prefix."""
        ...

    def delete(self, path: str) -> None:
        """Delete an object; absent is fine."""
        ...

    def delete_all(self, paths: Sequence[str]) -> None:
        """Delete objects, up to a thousand by one call where the backend can; absent ones are fine."""
        ...

    def size(self, path: str) -> int:
        """Size in bytes."""
        ...

    def modified(self, path: str) -> str:
        """When an object was last written (RFC 3339, UTC); empty when it is absent."""
        ...

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (exclusive)."""
        ...


class ObstoreObjects:
    """Objects through obstore."""

    def __init__(self, store: Any, where: str) -> None:
        self._store = store
        self._where = where
        self.calls = 0

    def create(self, path: str, content: bytes) -> bool:
        """Create an object; False when it exists already."""
        try:
            with self._errors():
                obstore.put(self._store, path, content, mode="create", use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def put(self, path: str, content: bytes) -> None:
        """Create or overwrite an object."""
        with self._errors():
            obstore.put(self._store, path, content)

    def get(self, path: str) -> bytes | None:
        """Content, or None when absent."""
        try:
            with self._errors():
                return bytes(obstore.get(self._store, path).bytes())
        except (NotFoundError, FileNotFoundError):
            return None

    def list(self, prefix: str) -> list[Entry]:
        """All objects below a prefix."""
        with self._errors():
            return list(self._entries(prefix))

    def delete(self, path: str) -> None:
        """Delete an object; absent is fine."""
        try:
            with self._errors():
                obstore.delete(self._store, path)
        except (NotFoundError, FileNotFoundError):
            return

    def delete_all(self, paths: Sequence[str]) -> None:
        """Delete objects, up to a thousand by one call where the backend can; absent ones are fine."""
        for start in range(0, len(paths), DELETE_BATCH):
            batch = list(paths[start : start + DELETE_BATCH])
            try:
                with self._errors():
                    obstore.delete(self._store, batch)
            except (NotFoundError, FileNotFoundError):  # another sweeps too, and the rest of the batch may be left
                for path in batch:
                    self.delete(path)

    def size(self, path: str) -> int:
        """Size in bytes."""
        with self._errors():
            return int(obstore.head(self._store, path)["size"])

    def modified(self, path: str) -> str:
        """When an object was last written (RFC 3339, UTC); empty when it is absent."""
        try:
            with self._errors():
                written: datetime = obstore.head(self._store, path)["last_modified"]
        except (NotFoundError, FileNotFoundError):
            return ""
        return written.astimezone(UTC).isoformat(timespec="seconds")

    def get_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes `start` to `end` (exclusive)."""
        with self._errors():
            return bytes(obstore.get_range(self._store, path, start=start, end=end))

    def _entries(self, prefix: str) -> Iterator[Entry]:
        for batch in obstore.list(self._store, prefix, chunk_size=1000):
            for meta in batch:
                yield Entry(meta["path"], f"{meta['e_tag']}|{meta['last_modified']}|{meta['size']}")

    def _errors(self) -> "_Errors":
        self.calls += 1
        return _Errors(self._where)


class _Errors:
    """Turns backend errors into ours: what cannot pass is a RunError, the rest is worth another try."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._waiting = waiting_for(f"the store {where}")

    def __enter__(self) -> None:
        self._waiting.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self._waiting.__exit__(None, None, None)
        if error is None or isinstance(error, AlreadyExistsError | NotFoundError | PreconditionError):
            return
        if isinstance(error, FileNotFoundError | RunError | StoreUnavailableError):
            return
        if isinstance(error, BaseError | OSError):
            raise explain(error, self._where) from error


def explain(error: Exception, where: str) -> RunError | StoreUnavailableError:
    """The right error for a backend error at `where`, in words."""
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _says(
        text, "No space left", "Disk quota", "File too large"
    ):
        return RunError(FailureReason.STORE_FULL, f"the store {where} is full: free space or name another store")
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError | PermissionError)
    if denied or number in (errno.EROFS, errno.EACCES) or _says(text, "Read-only file system", "Permission denied"):
        message = f"the store {where} cannot be written: check permissions and credentials ({_short(text)})"
        return RunError(FailureReason.STORE_UNWRITABLE, message)
    return StoreUnavailableError(f"{where}: {_short(text)}")


def open_objects(uri: str, quick_to_fail: bool = False) -> ObstoreObjects:
    """Objects of a store URI: a path, file://, s3://, gs://, az:// or memory:// (tests).

    Args:
        uri: where.
        quick_to_fail: an unreachable store is an error within seconds: for callers that repeat their calls themselves
            and must notice a stop between them (no Python signal handler runs within a call). Else within minutes.

    Raises:
        RunError: the URI is unknown or the folder cannot be made.
    """
    if uri.startswith("memory://"):
        return ObstoreObjects(MemoryStore(), uri)
    try:
        if uri.startswith(FILE) or "://" not in uri:
            folder = Path(uri.removeprefix(FILE))
            folder.mkdir(parents=True, exist_ok=True)
            return ObstoreObjects(LocalStore(folder), str(folder))
        options = {"retry_config": QUICK_RETRIES} if quick_to_fail else {}
        return ObstoreObjects(from_url(uri, **options), uri)
    except OSError as error:
        raise explain(error, uri) from error
    except (BaseError, ValueError) as error:
        message = f"the store {uri} cannot be opened: {_short(str(error))}"
        raise RunError(FailureReason.STORE_UNWRITABLE, message) from error


def _says(text: str, *words: str) -> bool:
    return any(word in text for word in words)


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
