"""Checks of single values at the border of the core; each raises the error class it is given."""

from decimal import Decimal
from math import isfinite

from evalfleet_scaling.errors import ScalingInputError


def require_name(error: type[ScalingInputError], kind: str, name: str) -> None:
    """Refuse an empty name."""
    if not name:
        raise error(f"{kind}: the name is empty")


def require_number(error: type[ScalingInputError], label: str, value: float, *, at_least: float = 0.0) -> None:
    """Refuse what is not a finite number, or lies below `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise error(f"{label}: {value!r} is not a finite number")
    if value < at_least:
        raise error(f"{label}: {value} is below {at_least:g}")


def require_count(error: type[ScalingInputError], label: str, value: int, *, at_least: int = 0) -> None:
    """Refuse what is not a whole number, or lies below `at_least`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise error(f"{label}: {value!r} is not a whole number")
    if value < at_least:
        raise error(f"{label}: {value} is below {at_least}")


def require_money(error: type[ScalingInputError], label: str, value: Decimal) -> None:
    """Refuse what is not a finite, non-negative Decimal."""
    if not isinstance(value, Decimal) or not value.is_finite():
        raise error(f"{label}: {value!r} is no amount of money (a finite Decimal); is the price missing?")
    if value < 0:
        raise error(f"{label}: {value} is negative")
