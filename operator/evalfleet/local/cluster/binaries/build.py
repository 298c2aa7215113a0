"""`go build` of the pinned modules in `hack/go`."""

import os
import shutil
import subprocess
from pathlib import Path

from evalfleet.local.cluster.binaries.release import Release


class BuildError(RuntimeError):
    """`go build` failed; the message ends with what it printed."""


def module_folder(release: Release) -> Path | None:
    """Folder with the pinned go.mod: inside an installed package, or in the checkout; None when neither has it."""
    here = Path(__file__).resolve()
    for root in (here.parents[1] / "gomodules", here.parents[5] / "hack" / "go"):
        if (root / release.module / "go.mod").is_file():
            return root / release.module
    return None


def go_program() -> str | None:
    """Path of the Go tool, or None."""
    return shutil.which("go")


def build(release: Release, target: Path) -> None:
    """Build `release` into `target`; the file appears complete or not at all."""
    go, folder = go_program(), module_folder(release)
    if go is None or folder is None:
        raise BuildError(f"{release.name} cannot be built: " + ("no Go" if go is None else "no pinned module"))
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    ldflags = " ".join(("-s", "-w", *release.ldflags))
    argv = [go, "build", "-mod=readonly", "-trimpath", "-ldflags", ldflags, "-o", str(partial), release.package]
    environment = {**os.environ, "CGO_ENABLED": "0"}
    result = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        partial.unlink(missing_ok=True)
        raise BuildError(f"go build {release.package}: {result.stderr[-2000:].strip()}")
    partial.replace(target)
