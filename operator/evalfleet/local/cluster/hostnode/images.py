"""Which pods this machine can run, and with which programs (pure but for looking at PATH)."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from evalfleet.local.cluster.config import HostImage

_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def find_image(reference: str, images: Sequence[HostImage]) -> HostImage | None:
    """The image with the longest matching prefix."""
    matching = [image for image in images if reference.startswith(image.prefix)]
    return max(matching, key=lambda image: len(image.prefix), default=None)


def image_environment(image: HostImage) -> dict[str, str]:
    """What the image itself sets. Nothing is inherited from whoever started the cluster."""
    programs = str(Path(image.python).parent)
    return {"PATH": f"{programs}:{_SYSTEM_PATH}", "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1", **image.env}


def find_program(name: str, image: HostImage, environment: dict[str, str], cwd: str) -> str | None:
    """Path of a container's program, or None when the image does not contain it."""
    if name in ("python", "python3"):
        return image.python
    if "/" in name:
        path = Path(cwd, name)
        return str(path) if path.is_file() else None
    return shutil.which(name, path=environment["PATH"])
