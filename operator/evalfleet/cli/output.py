"""Printing results and errors: tables for people, JSON and YAML for programs."""

import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NoReturn

import typer

USAGE_ERROR = 2
RUN_ERROR = 3
INTERRUPTED = 130


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def print_data(content: Any, form: Format) -> None:
    """Print plain data as JSON or YAML on stdout."""
    if form is Format.JSON:
        print(json.dumps(content, indent=2))  # noqa: T201
    else:
        import yaml

        print(yaml.safe_dump(content, sort_keys=False), end="")  # noqa: T201


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells (the first are the headings) aligned as kubectl does."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def printable(text: str) -> str:
    """Text for one line of a terminal: what a pod or a user wrote must not move its cursor (CVE-2021-25743)."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def fail(message: str, code: int) -> NoReturn:
    """End the command with a message on stderr."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(code)
