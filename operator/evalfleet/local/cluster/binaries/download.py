"""Official release downloads, accepted only when their SHA-256 equals the published one."""

import hashlib
import platform
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, cast

from evalfleet.local.cluster.binaries.release import Release

_TIMEOUT_SECONDS = 60
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class DownloadError(RuntimeError):
    """A release could not be downloaded or its checksum is wrong."""


def architecture() -> str:
    """Name of this machine's processor in the release addresses."""
    machine = platform.machine()
    try:
        return _ARCHITECTURES[machine]
    except KeyError:
        raise DownloadError(f"there are no official releases for {machine}; install Go to build them") from None


def download(release: Release, target: Path) -> None:
    """Download `release` to `target`, executable; the checksum is compared before anything is unpacked."""
    arch = architecture()
    url = release.url.format(arch=arch)
    archive = target.with_name(target.name + ".download")
    try:
        expected = published_checksum(_read(release.checksum_url.format(arch=arch)), url.rsplit("/", 1)[-1])
        actual = _fetch(url, archive)
        if actual != expected:
            raise DownloadError(f"{url}: SHA-256 is {actual}, published is {expected}; nothing was installed")
        _install(archive, release.member.format(arch=arch), target)
    except (OSError, urllib.error.URLError) as error:
        raise DownloadError(f"{url}: {error}") from error
    finally:
        archive.unlink(missing_ok=True)


def published_checksum(listing: str, filename: str) -> str:
    """SHA-256 of `filename` in a checksum file: either the bare digest or lines of `digest  name`."""
    lines = [line.split() for line in listing.splitlines() if line.strip()]
    if len(lines) == 1 and len(lines[0]) == 1:
        return lines[0][0].lower()
    for fields in lines:
        if len(fields) == 2 and fields[1].lstrip("*") == filename:
            return fields[0].lower()
    raise DownloadError(f"no checksum is published for {filename}")


def _open(url: str) -> IO[bytes]:
    if not url.startswith(("https://", "http://127.0.0.1:")):
        raise DownloadError(f"{url}: only https downloads are allowed")
    return cast("IO[bytes]", urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS))  # noqa: S310 - scheme checked above


def _read(url: str) -> str:
    with _open(url) as response:
        return response.read(1 << 20).decode()


def _fetch(url: str, target: Path) -> str:
    digest = hashlib.sha256()
    with _open(url) as response, target.open("wb") as file:
        while chunk := response.read(1 << 20):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _install(archive: Path, member: str, target: Path) -> None:
    if not member:
        archive.chmod(0o755)
        archive.replace(target)
        return
    with tarfile.open(archive) as tar:
        source = tar.extractfile(member)
        if source is None:
            raise DownloadError(f"{archive.name} contains no {member}")
        partial = target.with_name(target.name + ".partial")
        with source, partial.open("wb") as file:
            while chunk := source.read(1 << 20):
                file.write(chunk)
    partial.chmod(0o755)
    partial.replace(target)
