"""Every relative link of the documentation leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target} leads nowhere"
        if heading:
            assert heading in headings(file), f"{target}: no such heading"


def headings(page: Path) -> set[str]:
    """Anchors of a page as GitHub makes them."""
    lines = (line.lstrip("#").strip().lower() for line in page.read_text("utf-8").splitlines() if line.startswith("#"))
    return {re.sub(r"[^\w\- ]", "", line).replace(" ", "-") for line in lines}
