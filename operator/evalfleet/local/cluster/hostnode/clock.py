"""The wall clock in the form the API server expects."""

from datetime import UTC, datetime


def utc_now() -> str:
    """Now, as RFC 3339 with seconds (metav1.Time)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_now_micro() -> str:
    """Now, as RFC 3339 with microseconds (metav1.MicroTime)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
