"""Rows of data files as they were written: no dates made of text, no words made of nothing."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NA_WORDS = frozenset(("", "NA", "N/A", "n/a", "<NA>", "#NA", "#N/A", "#N/A N/A", "NULL", "null", "None")) | frozenset(
    ("nan", "NaN", "-nan", "-NaN", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN")
)
"""Cells of a CSV file that pandas, and with it lm-eval, reads as a missing value."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the rows: its name below `data.uri` and how many rows it has."""

    name: str
    count: int


class Rows(list[dict[str, Any]]):
    """Rows that lm-eval takes as a data set.

    Attributes:
        features: the columns, in order.
        parts: the files that the rows come from, in order.
        doubtful: texts that may mean a missing value (cells of a CSV file).
    """

    def __init__(
        self,
        rows: Iterable[Mapping[str, Any]],
        features: Iterable[str],
        parts: Sequence[Part] = (),
        doubtful: frozenset[str] = frozenset(),
    ) -> None:
        self.features = dict.fromkeys(features)
        super().__init__({name: row.get(name) for name in self.features} for row in rows)
        self.parts = parts
        self.doubtful = doubtful

    def place(self, index: int) -> str:
        """Where row `index` (0-based) stands: `d.jsonl: row 2`, counted from 1 without a header."""
        for part in self.parts:
            if index < part.count:
                return f"{part.name}: row {index + 1}"
            index -= part.count
        return f"row {index + 1}"

    def lacks(self, value: Any) -> bool:
        """Whether a value of these rows is missing, or may be meant so."""
        return _is_nothing(value) or (isinstance(value, str) and value in self.doubtful)


def _is_nothing(value: Any) -> bool:
    """None, or the NaN that pandas writes for it into a column of numbers."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def missing_value(place: str, column: str, value: Any) -> str:
    """The sentence about a value that is missing or may be meant so."""
    if _is_nothing(value):
        return (
            f"{place} has no value in column {column!r}: write one, leave the row out, "
            "or let the template say what to do without it ({% if ... %} or the filter `default`)"
        )
    held = "an empty cell" if value == "" else f"the word {value!r}"
    return (
        f"{place} has {held} in column {column!r}, which may mean a missing value: "
        "set data.naValues: Keep if it is text, else write a value or leave the row out"
    )
