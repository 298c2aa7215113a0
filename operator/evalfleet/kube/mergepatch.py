"""JSON merge patch (RFC 7386), as the API server applies it. Pure."""

from collections.abc import Mapping
from typing import Any


def merge_patched(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """What a patch makes of an object: objects are merged, None removes a member, everything else replaces."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping):
            known = result.get(name)
            result[name] = merge_patched(known if isinstance(known, Mapping) else {}, value)
        else:
            result[name] = value
    return result
