"""From arrival events to the minute series: what is wrong is said and left out, never guessed, never a zero.

A minute is a zero only if it was *watched* and nothing arrived. Minutes outside the watched spans, and minutes in which
an unusable event arrived, are gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.interface import BUCKET_SECONDS, LARGEST_DEMAND, FloatArray, Series

LARGEST_SPAN_MINUTES = 5 * 366 * 1_440
"""Five years: a longer span is a broken clock, not a history."""
LATEST_SECONDS = 1e11
"""The year 5138: a time beyond is in another unit, or noise."""
CROWDED = 1_000_000
"""From this many events in one minute on, the minute is reported: a burst, or a clock that stood still."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found wrong in the input: reason for machines, message for people, how often."""

    reason: str
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """The series and what was found wrong on the way."""

    series: Series
    warnings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Raw events of one (policy, accelerator).

    Attributes:
        seconds: shape (events,), Unix time of admission; any order.
        demand: shape (events,), GPU-seconds each.
        ids: shape (events,) or empty; an event whose id was seen before is a duplicate. Without ids, equal events are
            kept: two equal jobs in the same second are ordinary.
        watched: spans (from, to) in Unix seconds in which arrivals were recorded; empty: first to last event.
    """

    seconds: FloatArray
    demand: FloatArray
    ids: Sequence[str] = ()
    watched: Sequence[tuple[float, float]] = ()


def ingest(arrivals: Arrivals, name: str = "") -> Ingested:
    """Bucket arrivals by the minute.

    Raises nothing for bad events: they are left out, their minute becomes a gap, and a warning says so.
    """
    warnings: list[Finding] = []
    seconds = np.asarray(arrivals.seconds, dtype=np.float64)
    demand = np.asarray(arrivals.demand, dtype=np.float64)
    seconds, demand = _same_length(seconds, demand, warnings)
    seconds, demand = _without_duplicates(seconds, demand, arrivals.ids, warnings)
    seconds, demand = _timed(seconds, demand, warnings)
    if np.any(np.diff(seconds) < 0):
        steps = int((np.diff(seconds) < 0).sum())
        warnings.append(Finding("OutOfOrder", f"{steps} events lie before the one given ahead of them: sorted", steps))
    spans = _watched(arrivals.watched, seconds, warnings)
    if not spans:
        warnings.append(Finding("NothingArrived", "no usable event and no watched span: the series is empty", 1))
        return Ingested(Series(np.zeros(0), 0, name), tuple(warnings))
    first, last = spans[0][0], max(stop for _, stop in spans)
    values = _bucket(seconds, demand, (first, last, spans), warnings)
    return Ingested(Series(values, first, name), tuple(warnings))


def _same_length(seconds: FloatArray, demand: FloatArray, warnings: list[Finding]) -> tuple[FloatArray, FloatArray]:
    usable = min(len(seconds), len(demand))
    cut = max(len(seconds), len(demand)) - usable
    if cut:
        warnings.append(Finding("UnevenColumns", f"{cut} events lack a time or a demand: left out", cut))
    return seconds[:usable], demand[:usable]


def _without_duplicates(
    seconds: FloatArray, demand: FloatArray, ids: Sequence[str], warnings: list[Finding]
) -> tuple[FloatArray, FloatArray]:
    if len(ids) != len(seconds):
        if ids:
            warnings.append(Finding("IdsIgnored", f"{len(ids)} ids for {len(seconds)} events: ids not used", 1))
        return seconds, demand
    _, first = np.unique(np.asarray(ids, dtype=str), return_index=True)
    dropped = len(seconds) - len(first)
    if dropped:
        warnings.append(Finding("Duplicate", f"{dropped} events repeat an id: counted once", dropped))
    keep = np.sort(first)
    return seconds[keep], demand[keep]


def _timed(seconds: FloatArray, demand: FloatArray, warnings: list[Finding]) -> tuple[FloatArray, FloatArray]:
    usable = np.abs(seconds) <= LATEST_SECONDS
    if usable.any():
        # A clock that jumped years away would make a series of years; the median tells where the history really is.
        middle = float(np.median(seconds[usable]))
        usable[usable] = np.abs(seconds[usable] - middle) <= LARGEST_SPAN_MINUTES * BUCKET_SECONDS / 2
    bad = int((~usable).sum())
    if bad:
        warnings.append(Finding("BadTime", f"{bad} events have no usable time (NaN or years away): left out", bad))
    return seconds[usable], demand[usable]


def _watched(
    given: Sequence[tuple[float, float]], seconds: FloatArray, warnings: list[Finding]
) -> list[tuple[int, int]]:
    spans = [(start, stop) for start, stop in given if np.isfinite([start, stop]).all() and stop > start]
    bad = len(given) - len(spans)
    if bad:
        warnings.append(Finding("BadSpan", f"{bad} watched spans end before they start: left out", bad))
    if not given and len(seconds):
        spans = [(float(seconds.min()), float(seconds.max()) + 1.0)]
    minutes = sorted((int(start // BUCKET_SECONDS), int(-(-stop // BUCKET_SECONDS))) for start, stop in spans)
    if minutes and max(stop for _, stop in minutes) - minutes[0][0] > LARGEST_SPAN_MINUTES:
        warnings.append(Finding("BadSpan", "the watched spans cover more than five years: events alone are used", 1))
        return _watched((), seconds, warnings)
    return minutes


def _bucket(
    seconds: FloatArray, demand: FloatArray, frame: tuple[int, int, list[tuple[int, int]]], warnings: list[Finding]
) -> FloatArray:
    first, last, spans = frame
    seen = np.zeros(last - first, dtype=bool)
    for start, stop in spans:
        seen[start - first : stop - first] = True
    index = np.floor(seconds / BUCKET_SECONDS).astype(np.int64) - first
    inside = (index >= 0) & (index < len(seen))
    inside[inside] = seen[index[inside]]
    outside = int((~inside).sum())
    if outside:
        warnings.append(Finding("Unwatched", f"{outside} events fall into minutes nobody watched: left out", outside))
    index, demand = index[inside], demand[inside]
    bad = ~((demand >= 0) & (demand <= LARGEST_DEMAND))
    values = np.bincount(index[~bad], weights=demand[~bad], minlength=len(seen)).astype(np.float64)
    if bad.any():
        seen[index[bad]] = False
        count = int(bad.sum())
        warnings.append(
            Finding("BadDemand", f"{count} events of negative, NaN or absurd demand: their minutes are gaps", count)
        )
    counts = np.bincount(index, minlength=len(seen))
    if len(counts) and counts.max() >= CROWDED:
        minute = int(first + counts.argmax())
        warnings.append(Finding("Crowded", f"{counts.max()} events in minute {minute}: counted, but look at it", 1))
    return np.where(seen, values, np.nan)
