"""Cutting the rows into units: contiguous ranges worth about the wanted seconds of predicted work."""

from collections.abc import Sequence

from evalfleet_worker.requests import Request, Unit

OVERFULL = 1.25
"""A unit may exceed the wanted seconds by this factor rather than leave a stump behind it."""


def cut_units(
    rows: Sequence[Request], seconds: Sequence[float], unit_seconds: float
) -> list[tuple[Unit, list[Request]]]:
    """Units of whole rows; a unit never spans two evaluations.

    Args:
        rows: the plan's rows in order.
        seconds: predicted seconds of each row after the row before it.
        unit_seconds: wanted seconds per unit.
    """
    units: list[tuple[Unit, list[Request]]] = []
    for first, last in _evaluation_ranges(rows):
        for begin, end in _balanced(seconds, first, last, unit_seconds):
            members = list(rows[begin:end])
            tokens = sum(len(request.token_ids) for request in members)
            work = sum(seconds[begin:end])
            units.append((Unit(len(units), begin, end - begin, tokens, work), members))
    return units


def _evaluation_ranges(rows: Sequence[Request]) -> list[tuple[int, int]]:
    starts = [i for i, row in enumerate(rows) if i == 0 or rows[i - 1].evaluation != row.evaluation]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))


def _balanced(seconds: Sequence[float], first: int, last: int, wanted: float) -> list[tuple[int, int]]:
    """Ranges of about equal work: the count of units is rounded, then each gets its share of what is left."""
    total = sum(seconds[first:last])
    count = max(1, round(total / wanted)) if total > OVERFULL * wanted else 1
    ranges: list[tuple[int, int]] = []
    begin, work, done = first, 0.0, 0.0
    for index in range(first, last):
        work += seconds[index]
        share = (total - done) / (count - len(ranges))
        is_last = len(ranges) == count - 1
        if not is_last and work >= share:
            ranges.append((begin, index + 1))
            begin, done, work = index + 1, done + work, 0.0
    if begin < last:
        ranges.append((begin, last))
    return ranges
