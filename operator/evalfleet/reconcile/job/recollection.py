"""The status as a memory that anybody with the right to may have written: times that cannot be are left out. Pure.

The status is what the operator remembers across restarts, so it is believed, but not beyond reason: a time before the
object or in the future would overflow, or hold a job for ever.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evalfleet import limits

MOMENTS = ("startTime", "completionTime")


def recollected(status: Mapping[str, Any], created: datetime, now: datetime) -> Mapping[str, Any]:
    """The same status, every moment that cannot be taken for the creation of the object."""
    bounds = (created - limits.CLOCKS_APART, now + limits.CLOCKS_APART)
    origin = created.isoformat().replace("+00:00", "Z")
    conditions = status.get("conditions") or []
    absurd = {name: origin for name in MOMENTS if status.get(name) and not _is_within(status[name], bounds)}
    if not absurd and all(_is_within(condition.get("lastTransitionTime"), bounds) for condition in conditions):
        return status
    return {**status, **absurd, "conditions": [_dated(condition, bounds, origin) for condition in conditions]}


def _dated(condition: Mapping[str, Any], bounds: tuple[datetime, datetime], origin: str) -> Mapping[str, Any]:
    if _is_within(condition.get("lastTransitionTime"), bounds):
        return condition
    return {**condition, "lastTransitionTime": origin}


def _is_within(text: object, bounds: tuple[datetime, datetime]) -> bool:
    try:
        return bounds[0] <= datetime.fromisoformat(str(text)) <= bounds[1]
    except (
        ValueError,
        TypeError,
    ):  # the API server's date-time is wider (hours of an offset), a naive one compares not
        return False
