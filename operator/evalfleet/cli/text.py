"""Times and sums as people read them. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

Object = Mapping[str, Any]

MINUTE, HOUR, DAY = 60, 3600, 86400
NOTHING = "-"


def duration(seconds: float) -> str:
    """Seconds as kubectl writes ages: 45s, 5m30s, 3h12m, 4d6h."""
    left = max(0, round(seconds))
    if left < 2 * MINUTE:
        return f"{left}s"
    if left < HOUR:
        return _pair(left, MINUTE, "m", 1, "s") if left < 10 * MINUTE else f"{left // MINUTE}m"
    if left < 2 * DAY:
        return _pair(left, HOUR, "h", MINUTE, "m")
    return _pair(left, DAY, "d", HOUR, "h")


def age(then: Any, now: datetime) -> str:
    """How long ago a timestamp of the API was; `-` when there is none."""
    time = parse_time(then)
    return duration((now - time).total_seconds()) if time else NOTHING


def relative(then: Any, now: datetime) -> str:
    """`in 5m` or `5m ago`; `-` when there is no time."""
    time = parse_time(then)
    if time is None:
        return NOTHING
    seconds = (time - now).total_seconds()
    return f"in {duration(seconds)}" if seconds >= 0 else f"{duration(-seconds)} ago"


def clock(then: Any) -> str:
    """A timestamp as date and time of UTC."""
    time = parse_time(then)
    return time.strftime("%Y-%m-%d %H:%M:%S UTC") if time else NOTHING


def parse_time(text: Any) -> datetime | None:
    """An RFC 3339 timestamp, or None for what is none."""
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def money(amount: Any, currency: Any = "") -> str:
    """A decimal string with two places (four below one) and its currency; `-` when there is none."""
    try:
        value = Decimal(str(amount))
    except InvalidOperation:
        return NOTHING
    places = 2 if value == 0 or value >= 1 else 4
    return f"{value:.{places}f} {currency or ''}".rstrip()


def saved_percent(spent: Any, on_demand: Any) -> int | None:
    """How much cheaper than on demand, in percent; None when it cannot be told."""
    try:
        paid, full = Decimal(str(spent)), Decimal(str(on_demand))
    except InvalidOperation:
        return None
    return round(100 * (1 - paid / full)) if full > 0 else None


def condition(body: Object, kind: str) -> Object:
    """The condition of a type; empty when it is absent."""
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((entry for entry in conditions if entry.get("type") == kind), {})


def state(body: Object) -> str:
    """In a word or two where an object is: its own word, or that nobody has looked at it yet."""
    return str((body.get("status") or {}).get("state") or condition(body, "Ready").get("reason") or "NotSeenYet")


def _pair(left: int, large: int, large_name: str, small: int, small_name: str) -> str:
    whole, rest = left // large, left % large // small
    return f"{whole}{large_name}{rest}{small_name}" if rest else f"{whole}{large_name}"
