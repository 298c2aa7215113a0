"""The images are built from what their definitions copy: enough to build the wheel, and nothing of it held back."""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = sorted((ROOT / "containers").glob("*.Containerfile"))


def copied(image: Path) -> list[str]:
    """Paths of the repository that go into the build stage."""
    text = image.read_text("utf-8")
    lines = re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
    return [name for line in lines for name in line.split()[:-1]]


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_enough_to_build_the_package(image: Path, tmp_path: Path) -> None:
    for name in copied(image):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "dist").glob("evalfleet-*.whl"))


def test_the_builder_is_sent_what_is_copied() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").split()
    sent = [line.removeprefix("!") for line in lines if line.startswith("!")]
    for name in {name for image in IMAGES for name in copied(image)}:
        assert any(fnmatch(name, pattern) or name.startswith(f"{pattern}/") for pattern in sent), name


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_no_image_runs_as_root(image: Path) -> None:
    assert re.search(r"^USER 65532:65532$", image.read_text("utf-8"), re.MULTILINE)
