"""Control-plane programs are found in order, never built twice, and downloaded only with the right checksum."""

import hashlib
import http.server
import io
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evalfleet.local.cluster.binaries import (
    CONTROL_PLANE,
    RELEASES,
    BinariesMissingError,
    ensure_binaries,
    find_binaries,
)
from evalfleet.local.cluster.binaries.build import module_folder
from evalfleet.local.cluster.binaries.download import DownloadError, architecture, download, published_checksum

PROGRAM = b"#!/bin/sh\necho it runs\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A release server of our own: its address and the folder it serves."""
    folder = tmp_path / "releases"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{listener.server_port}", folder
        listener.shutdown()


def test_a_plain_program_is_installed_when_its_checksum_fits(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "kubectl").write_bytes(PROGRAM)
    (folder / "kubectl.sha256").write_text(hashlib.sha256(PROGRAM).hexdigest())
    release = replace(RELEASES["kubectl"], url=f"{address}/kubectl", checksum_url=f"{address}/kubectl.sha256")
    target = tmp_path / "kubectl"
    download(release, target)
    assert subprocess.run([target], capture_output=True, text=True, check=True).stdout == "it runs\n"


def test_an_archive_is_unpacked_to_its_one_program(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    with tarfile.open(folder / "etcd.tar.gz", "w:gz") as tar:
        member = tarfile.TarInfo(f"etcd-{architecture()}/etcd")
        member.size = len(PROGRAM)
        tar.addfile(member, io.BytesIO(PROGRAM))
    digest = hashlib.sha256((folder / "etcd.tar.gz").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  other.tar.gz\n{digest}  etcd.tar.gz\n")
    release = replace(
        RELEASES["etcd"],
        url=f"{address}/etcd.tar.gz",
        checksum_url=f"{address}/SHA256SUMS",
        member="etcd-{arch}/etcd",
    )
    target = tmp_path / "etcd"
    download(release, target)
    assert target.read_bytes() == PROGRAM


def test_a_wrong_checksum_installs_nothing(server: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = server
    (folder / "kubectl").write_bytes(PROGRAM + b"evil")
    (folder / "kubectl.sha256").write_text(hashlib.sha256(PROGRAM).hexdigest())
    release = replace(RELEASES["kubectl"], url=f"{address}/kubectl", checksum_url=f"{address}/kubectl.sha256")
    target = tmp_path / "bin" / "kubectl"
    target.parent.mkdir()
    with pytest.raises(DownloadError, match="nothing was installed"):
        download(release, target)
    assert list(target.parent.iterdir()) == []


def test_a_missing_release_is_an_error_with_its_address(server: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = server
    release = replace(RELEASES["kubectl"], url=f"{address}/kubectl", checksum_url=f"{address}/kubectl.sha256")
    with pytest.raises(DownloadError, match="404"):
        download(release, tmp_path / "kubectl")


def test_plain_http_to_elsewhere_is_refused(tmp_path: Path) -> None:
    release = replace(RELEASES["kubectl"], url="http://example.com/kubectl", checksum_url="http://example.com/sum")
    with pytest.raises(DownloadError, match="only https"):
        download(release, tmp_path / "kubectl")


def test_a_checksum_list_without_the_file_is_refused() -> None:
    with pytest.raises(DownloadError, match="no checksum"):
        published_checksum(f"{'0' * 64}  other", "etcd.tar.gz")


def test_assets_come_before_path_and_path_before_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets, path, cache = (tmp_path / name for name in ("assets", "path", "cache"))
    monkeypatch.setenv("PATH", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert find_binaries() == {}
    for name in CONTROL_PLANE:
        make_program(cache / "evalfleet" / "bin" / RELEASES[name].version / name)
    assert parents() == {cache / "evalfleet" / "bin" / version for version in ("v1.36.3", "v3.6.14")}
    for name in CONTROL_PLANE:
        make_program(path / name)
    assert parents() == {path}
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    make_program(assets / "etcd")
    make_program(assets / "kube-apiserver")  # alone: the four of Kubernetes are taken from one place
    assert find_binaries()["etcd"] == assets / "etcd"
    assert find_binaries()["kube-apiserver"] == path / "kube-apiserver"


def test_without_go_and_network_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setitem(RELEASES, "kwok", replace(RELEASES["kwok"], checksum_url="https://127.0.0.1:1/none"))
    lines: list[str] = []
    with pytest.raises(BinariesMissingError, match=r"no `go` on PATH.*Install Go.*KUBEBUILDER_ASSETS"):
        ensure_binaries(["kwok"], lines.append)
    assert lines == ["[1/1] downloading kwok v0.8.0"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("go") is None, reason="no Go to build with")
def test_a_missing_program_is_built_from_its_pinned_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = Path(shutil.which("go") or "").resolve().parent
    for name, value in (("GOCACHE", "go-build"), ("GOMODCACHE", "go/pkg/mod")):
        default = Path.home() / (f".cache/{value}" if name == "GOCACHE" else value)
        monkeypatch.setenv(name, os.environ.get(name, str(default)))
    monkeypatch.setenv("PATH", f"{go}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    lines: list[str] = []
    program = ensure_binaries(["etcd"], lines.append)["etcd"]
    assert lines == ["[1/1] building etcd v3.6.14 (first time: about 40 s, 2 cores)"]
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    assert "etcd Version: 3.6.14" in version
    assert ensure_binaries(["etcd"], lines.append)["etcd"] == program
    assert len(lines) == 1


@pytest.mark.parametrize("name", RELEASES)
def test_every_program_has_its_pinned_module(name: str) -> None:
    folder = module_folder(RELEASES[name])
    assert folder is not None
    pinned = (folder / "go.mod").read_text()
    assert RELEASES[name].version in pinned
    assert (folder / "go.sum").is_file()


def parents() -> set[Path]:
    return {path.parent for path in find_binaries().values()}


def make_program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PROGRAM)
    path.chmod(0o755)
