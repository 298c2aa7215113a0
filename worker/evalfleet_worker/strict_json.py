"""JSON of numbers only: NaN and infinities, which JSON does not have, become null, and are told beside."""

import json
import math
from collections.abc import Mapping
from typing import Any


def strict(value: Any, place: str = "") -> tuple[Any, dict[str, str]]:
    """A JSON value without numbers that are none, and what stood at which place (`results/task/acc,none`)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, {place: str(value)}
    if isinstance(value, Mapping):
        members = {key: strict(member, f"{place}/{key}" if place else str(key)) for key, member in value.items()}
        return {key: member for key, (member, _) in members.items()}, _merged(found for _, found in members.values())
    if isinstance(value, list | tuple):
        items = [strict(member, f"{place}/{index}") for index, member in enumerate(value)]
        return [member for member, _ in items], _merged(found for _, found in items)
    return value, {}


def strict_dumps(value: Any, **options: Any) -> str:
    """`json.dumps` of the strict value, keys sorted."""
    return json.dumps(strict(value)[0], sort_keys=True, ensure_ascii=False, allow_nan=False, **options)


def _merged(found: Any) -> dict[str, str]:
    return {place: words for members in found for place, words in members.items()}
