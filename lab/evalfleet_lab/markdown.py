"""Tables in Markdown."""

from collections.abc import Iterable, Mapping, Sequence


def table(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """The lines of a table; a cell that is None is empty."""
    heads = list(columns)
    return [_line(heads), "|" + "---|" * len(heads), *map(_line, rows)]


def table_of(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The lines of a table with a column for every member that any row has, in the order of first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return table(columns, ([row.get(name) for name in columns] for row in rows))


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join("" if cell is None else str(cell) for cell in cells) + " |"
