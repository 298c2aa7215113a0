"""Digests of files, made once per node and state of the files."""

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path


def remembered(kind: str, files: Sequence[Path], cache: Path, make: Callable[[], str], described: str = "") -> str:
    """The digest of files as it was made for them when they had the same names, sizes, change times and inodes.

    Args:
        kind: of digest.
        files: that decide it.
        cache: node cache.
        make: makes it anew.
        described: what besides the files' state must be the same.
    """
    content = json.dumps([kind, described, [file_state(file) for file in files]])
    memo = cache / "digests" / hashlib.blake2b(content.encode(), digest_size=16).hexdigest()
    if memo.exists():
        return memo.read_text("ascii")
    digest = make()
    memo.parent.mkdir(parents=True, exist_ok=True)
    fresh = memo.with_suffix(f".{secrets.token_hex(8)}")
    fresh.write_text(digest, "ascii")
    fresh.replace(memo)
    return digest


def file_state(file: Path) -> list[str | int]:
    """Name, size, times and place on the disk: whoever writes a file changes one of them."""
    state = file.stat()
    return [str(file), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def content_digest(file: Path, cache: Path) -> str:
    """Hex digest (16 bytes) of a file's bytes, read once per node and state of the file."""
    return remembered("content", [file], cache, lambda: _hash(file))


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
