"""Find the programs, and make those that are missing.

Order: `KUBEBUILDER_ASSETS`, `PATH`, the cache, `go build` of the pinned modules, the official download.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from evalfleet.local.cluster.binaries.build import BuildError, build, go_program, module_folder
from evalfleet.local.cluster.binaries.download import DownloadError, download
from evalfleet.local.cluster.binaries.release import CONTROL_PLANE, KUBERNETES, RELEASES, Release

Report = Callable[[str], None]


class BinariesMissingError(RuntimeError):
    """A program is neither installed nor can it be built or downloaded; the message says what to do."""


def cache_folder() -> Path:
    """Where built and downloaded programs are kept (`XDG_CACHE_HOME` is honoured)."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "evalfleet" / "bin"


def find_binaries(names: Sequence[str] = CONTROL_PLANE) -> dict[str, Path]:
    """Those of `names` that exist already."""
    found: dict[str, Path] = {}
    for group in _groups(names):
        for place in _places():
            paths = {name: place(name) for name in group}
            if all(paths.values()):
                found.update({name: path for name, path in paths.items() if path is not None})
                break
    return found


def ensure_binaries(names: Sequence[str] = CONTROL_PLANE, report: Report = print) -> dict[str, Path]:
    """Paths of all `names`; what is missing is built or downloaded, each with a line to `report` beforehand.

    Raises:
        BinariesMissingError: nothing worked; the message says what was tried and what to do.
    """
    found = find_binaries(names)
    missing = [name for name in names if name not in found]
    for position, name in enumerate(missing, start=1):
        release = RELEASES[name]
        with _locked(_cached_path(release)) as target:
            if not target.is_file():  # another process may have made it while this one waited for the lock
                _make(release, target, lambda text, p=position: report(f"[{p}/{len(missing)}] {text}"))  # type: ignore[misc]
        found[name] = target
    return found


def _make(release: Release, target: Path, report: Report) -> None:
    reasons: list[str] = []
    if go_program() is None:
        reasons.append("no `go` on PATH")
    elif module_folder(release) is None:
        reasons.append("this installation does not contain the pinned Go modules")
    else:
        report(f"building {release.name} {release.version} (first time: about {release.build_seconds_hint} s, 2 cores)")
        try:
            return build(release, target)
        except BuildError as error:
            reasons.append(str(error))
    report(f"downloading {release.name} {release.version}")
    try:
        return download(release, target)
    except DownloadError as error:
        reasons.append(str(error))
    raise BinariesMissingError(
        f"{release.name} is missing: {'; '.join(reasons)}. Install Go 1.26 or later, or put the Kubernetes "
        f"{release.version} programs on PATH or in the folder that KUBEBUILDER_ASSETS names."
    )


def _groups(names: Sequence[str]) -> Iterator[list[str]]:
    together = [name for name in names if name in KUBERNETES]
    if together:
        yield together
    yield from ([name] for name in names if name not in KUBERNETES)


def _places() -> Iterator[Callable[[str], Path | None]]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        yield lambda name: _program(Path(assets) / name)
    yield lambda name: _program(Path(shutil.which(name) or ""))
    yield lambda name: _program(_cached_path(RELEASES[name]))


def _program(path: Path) -> Path | None:
    return path if path.is_file() and os.access(path, os.X_OK) else None


def _cached_path(release: Release) -> Path:
    return cache_folder() / release.version / release.name


@contextmanager
def _locked(target: Path) -> Iterator[Path]:
    """Hold the lock of one cached program, so that two processes do not build it twice."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield target
