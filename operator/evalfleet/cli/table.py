"""Tables that fit the screen: texts wrap, columns fall away by importance, and no number is ever cut. Pure.

Where the output is no terminal there is no width: every row is one line, every column is there.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

GAP = "   "
ESSENTIAL, USEFUL, DETAIL = 0, 1, 2
"""Importance of a column: it stays always; goes when texts are as narrow as can be; goes before they get narrow."""
COMFORTABLE, NARROW = 16, 6
"""Widths that a text column keeps before others fall away for it, and in the end."""
WORDS = re.compile(r"\S+\s*|\s+")
PARTS = re.compile(r"[^-_/.,:\s]*[-_/.,:]?\s*")
"""Where a text breaks best: behind a space or a mark."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and what may happen to it on a narrow screen.

    Attributes:
        heading: its name.
        importance: ESSENTIAL stays always, USEFUL and DETAIL (and what is larger) fall away, the largest first.
        number: right-aligned, and broken at spaces alone.
    """

    heading: str
    importance: int = ESSENTIAL
    number: bool = False


@dataclass(frozen=True, slots=True)
class _Placed:
    column: Column
    cells: tuple[str, ...]
    width: int

    def least(self, text_width: int) -> int:
        """How narrow it may become."""
        cells = (self.column.heading, *self.cells) if self.column.number else (self.column.heading,)
        longest = max(len(word.rstrip()) for cell in cells for word in WORDS.findall(cell))
        return min(self.width, longest if self.column.number else max(longest, text_width))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows under headings; columns without content are left out.

    Args:
        columns: what stands in each row.
        rows: cells of one line each.
        width: of the screen in characters; None where there is none.
    """
    placed = [_place(column, cells) for column, cells in _by_column(columns, rows)]
    kept = _fitting(placed, width)
    hidden = [one.column.heading for one in placed if one.column not in [k.column for k in kept]]
    lines = list(_lines(kept)) if width is None or _total(kept) <= width else list(_records(placed, width))
    if hidden and _total(kept) <= (width or 0):
        lines += wrapped(f"(not on this screen: {', '.join(hidden)}; a wider one shows all)", width)
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Text for one line of a terminal: what a pod or a user wrote must not move its cursor (CVE-2021-25743)."""
    return "".join(
        letter if letter.isprintable() else " " if letter.isspace() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def wrapped(text: str, width: int | None) -> list[str]:
    """A line of text as the lines of a screen; its indentation stays. A width of None is no screen."""
    if width is None or len(text) <= width:
        return [text]
    return _wrapped(text, max(width, NARROW), number=False)


def _by_column(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> Iterator[tuple[Column, tuple[str, ...]]]:
    for column, cells in zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True):
        if not rows or any(cells):
            yield column, tuple(map(printable, cells))


def _place(column: Column, cells: tuple[str, ...]) -> _Placed:
    return _Placed(column, cells, max(map(len, (column.heading, *cells))))


def _fitting(placed: list[_Placed], width: int | None) -> list[_Placed]:
    """The columns in the widths that fit, the least important left out; as narrow as can be when nothing helps."""
    if width is None:
        return placed
    kept = placed
    for text_width, may_go in ((COMFORTABLE, DETAIL), (NARROW, USEFUL)):
        while _total(narrowed := _narrowed(kept, width, text_width)) > width:
            droppable = [one for one in kept if one.column.importance >= may_go]
            if not droppable:
                break
            least = max(droppable, key=lambda one: one.column.importance)
            kept = [one for one in kept if one is not least]
        else:
            return narrowed
    return narrowed


def _narrowed(kept: list[_Placed], width: int, text_width: int) -> list[_Placed]:
    """Take from the widest column that can give until all fit."""
    widths = [one.width for one in kept]
    least = [one.least(text_width) for one in kept]
    while sum(widths) + len(GAP) * (len(kept) - 1) > width:
        able = [index for index in range(len(kept)) if widths[index] > least[index]]
        if not able:
            break
        widths[max(able, key=lambda index: (not kept[index].column.number, widths[index]))] -= 1
    return [replace(one, width=found) for one, found in zip(kept, widths, strict=True)]


def _total(kept: Sequence[_Placed]) -> int:
    return sum(one.width for one in kept) + len(GAP) * max(0, len(kept) - 1)


def _lines(kept: Sequence[_Placed]) -> Iterator[str]:
    for row in zip(*[(one.column.heading, *one.cells) for one in kept], strict=True):
        cells = [_wrapped(cell, one.width, one.column.number) for cell, one in zip(row, kept, strict=True)]
        for index in range(max(map(len, cells))):
            yield GAP.join(
                _padded(cell[index] if index < len(cell) else "", one) for cell, one in zip(cells, kept, strict=True)
            )


def _padded(text: str, one: _Placed) -> str:
    return text.rjust(one.width) if one.column.number else text.ljust(one.width)


def _records(placed: Sequence[_Placed], width: int) -> Iterator[str]:
    """One line per cell, for a screen on which not even the important columns fit side by side."""
    longest = max(len(one.column.heading) for one in placed)
    for row in range(len(placed[0].cells)):
        if row:
            yield ""
        for one in placed:
            room = max(NARROW, width - longest - len(GAP))
            for index, part in enumerate(_wrapped(one.cells[row], room, one.column.number)):
                yield (one.column.heading if index == 0 else "").ljust(longest) + GAP + part


def _wrapped(text: str, width: int, number: bool) -> list[str]:
    """The lines of a cell; a number is never broken, a word only where it is longer than the column."""
    lines = [""]
    for part in (WORDS if number else PARTS).findall(text):
        if len((lines[-1] + part).rstrip()) <= width:
            lines[-1] += part
            continue
        lines.append(part)
        while not number and len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return [line.strip() for line in lines if line.strip()] or [""]
