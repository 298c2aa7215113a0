"""Commands and options that messages and documents name exist, and docs/cli.md has them all."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from evalfleet.cli.exits import Exit
from evalfleet.cli.main import build
from evalfleet.cli.reference import leaves

ROOT = Path(__file__).parents[2]
PACKAGES = ("operator", "worker", "scaling", "lab", "benchmarks", "hack")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SPAN = re.compile(r"`(?:\$ )?(?:kubectl )?evalfleet ([^`]+)`")
LINE = re.compile(r"^(?:\$ |\t@?\$\(BIN\)/)(?:kubectl )?evalfleet (.+)$", re.MULTILINE)
COMMANDS: Any = typer.main.get_command(build())


def texts(source: Path) -> Iterator[str]:
    """Every string of a module, with `X` where an f-string has a value."""
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def wrong(mention: str) -> str:
    """Why a mention of the command line is none; empty where it is one."""
    words = re.split(r"[|>#]| or ", mention)[0].split()
    command = COMMANDS
    while words and getattr(command, "commands", None):
        name = words.pop(0)
        if name.startswith("-"):
            words.insert(0, name)
            break
        if name not in command.commands:
            return f"there is no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    named = (word.partition("=")[0].rstrip(",.;:)") for word in words if word.startswith("-") and len(word) > 1)
    missing = [option for option in named if option not in known]
    return f"{command.name} has no {missing[0]}" if missing else ""


def test_a_mention_of_what_does_not_exist_is_found() -> None:
    assert wrong("run job.yaml --workers 4") == ""
    assert "no command start" in wrong("start job.yaml")
    assert "no --hosts" in wrong("run X --hosts 4")
    assert "no command upp" in wrong("cluster upp")


@pytest.mark.parametrize("kind", ["messages", "documents"])
def test_every_command_and_option_that_is_named_exists(kind: str) -> None:
    places = SOURCES if kind == "messages" else DOCUMENTS
    found, faults = 0, []
    for path in places:
        for text in texts(path) if path.suffix == ".py" else [path.read_text("utf-8")]:
            for mention in (*SPAN.findall(text), *LINE.findall(text)):
                found += 1
                if why := wrong(mention):
                    faults.append(f"{path.relative_to(ROOT)}: evalfleet {mention}: {why}")
    assert faults == []
    assert found > 10


def test_exit_codes_are_those_that_pipelines_are_written_against() -> None:
    codes = {code.name: int(code) for code in Exit}
    assert codes == {
        "SUCCESS": 0,
        "NO_FULL_SCORE": 1,
        "USAGE": 2,
        "CANNOT_SUCCEED": 3,
        "INCONCLUSIVE": 4,
        "TIMEOUT": 5,
        "INTERRUPTED": 130,
    }


def test_the_page_of_the_command_line_has_every_command_option_and_exit_code() -> None:
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for path, command in leaves(COMMANDS, "evalfleet"):
        section = page.partition(f"### `{path}`\n")[2].partition("\n### ")[0]
        options = [max(parameter.opts, key=len) for parameter in command.params if parameter.opts[0].startswith("-")]
        assert section, path
        assert [name for name in options if f"`{name}`" not in section] == [], path
    for code in Exit:
        assert f"| {code.value} | {code.meaning} |" in page
