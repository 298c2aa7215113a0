"""Printing results and errors: tables for people, JSON and YAML for programs."""

import json
import shutil
import sys
from enum import StrEnum
from typing import Annotated, Any, NoReturn

import typer

from evalfleet.cli.exits import Exit


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"

    @property
    def for_people(self) -> bool:
        """Whether it is a table; WIDE has all columns, however narrow the screen."""
        return self in (Format.TABLE, Format.WIDE)


Output = Annotated[Format, typer.Option("--output", "-o", help="table, wide (every column), json or yaml.")]


def print_data(content: Any, form: Format) -> None:
    """Print plain data as JSON or YAML on stdout."""
    if form is Format.JSON:
        print(json.dumps(content, indent=2, allow_nan=False))  # noqa: T201
    else:
        import yaml

        print(yaml.safe_dump(content, sort_keys=False), end="")  # noqa: T201


def screen_width(form: Format = Format.TABLE) -> int | None:
    """Characters of a line of the terminal on stdout; None where it is none, or all is wanted."""
    if form is Format.WIDE or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size(fallback=(0, 0)).columns or None


def fail(message: str, code: Exit) -> NoReturn:
    """End the command with a message on stderr."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    raise typer.Exit(code)
