"""Small words for messages."""

from math import isfinite


def duration(seconds: float) -> str:
    """A span for people: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    if not isfinite(seconds):
        return "an unlimited time"
    if seconds < 0:
        return f"{duration(-seconds)} ago"
    if seconds < 90:
        return f"{round(seconds)} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def plural(count: int, noun: str) -> str:
    """`1 worker`, `2 workers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
