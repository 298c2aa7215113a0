"""Small file helpers shared by the local cluster."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes | str) -> None:
    """Write a file that only its owner may read (0600 from the first byte), complete or not at all."""
    data = content.encode() if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    partial.replace(path)


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700, also when it exists already."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
