"""Container paths to host paths, without mount namespaces (pure).

A value that equals a mount path or lies below it is rewritten, longest mount path first. `file://` addresses and the
part after `=` of an argument such as `--store=/data` count as values too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

_FILE_SCHEME = "file://"


@dataclass(frozen=True)
class Mount:
    """`path` in the container is `host_path` on this machine."""

    path: str
    host_path: str


def rewrite(value: str, mounts: Sequence[Mount]) -> str:
    """`value` with a leading mount path replaced; unchanged if none matches."""
    if value.startswith(_FILE_SCHEME):
        return _FILE_SCHEME + rewrite(value.removeprefix(_FILE_SCHEME), mounts)
    for mount in sorted(mounts, key=lambda mount: -len(mount.path)):
        path = mount.path.rstrip("/")
        if value == path or value.startswith(path + "/"):
            return mount.host_path + value[len(path) :]
    return value


def rewrite_argument(value: str, mounts: Sequence[Mount]) -> str:
    """`rewrite` for a command-line argument, `--option=/path` included."""
    option, separator, path = value.partition("=")
    if separator and option.startswith("-"):
        return f"{option}={rewrite(path, mounts)}"
    return rewrite(value, mounts)
