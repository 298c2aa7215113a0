"""Images by the digest that a pod of the run was seen with. Pure."""

import re

SCHEME = re.compile(r"^[a-z-]+://")
PINNED = re.compile(r"^(?P<repository>[^@\s]+)@(?P<digest>sha256:[0-9a-f]{64})$")
TAG = re.compile(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")


def pinned_image(image: str, image_id: str) -> str | None:
    """An image with the digest that its kubelet reports, None where it reports another repository or none.

    `imageID` is the runtime's: a reference by digest, or the id of an image that no registry knows.
    """
    found = PINNED.match(SCHEME.sub("", image_id))
    if found is None or "@" in image or _repository(found["repository"]) != _repository(TAG.sub("", image)):
        return None
    return f"{image}@{found['digest']}"


def is_pinned(image: str, text: str) -> bool:
    """Whether a text is the image with a digest, whoever wrote it."""
    return text.startswith(f"{image}@") and PINNED.match(text) is not None


def _repository(name: str) -> str:
    """The full name: registries of images without one report theirs."""
    head, slash, _ = name.partition("/")
    if not slash:
        return f"docker.io/library/{name}"
    return name if "." in head or ":" in head or head == "localhost" else f"docker.io/{name}"
