"""The spend ledger as a plain document, for a ConfigMap: money as decimal strings, unknown keys ignored."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.spend import OpenEntry, SpendLedger, Total

VERSION = 1


class LedgerUnreadableError(ScalingInputError):
    """A stored ledger cannot be read; the message says which part. Never start a fresh one silently."""


def ledger_to_document(ledger: SpendLedger) -> dict[str, Any]:
    """Plain JSON data of a ledger."""
    return {
        "version": VERSION,
        "forgottenUntilMs": ledger.forgotten_until_ms,
        "open": [_entry_to_document(entry) for entry in ledger.open.values()],
        "closed": dict(ledger.closed),
        "runs": _totals_to_document(ledger.runs),
        "hours": _totals_to_document(ledger.hours),
        "days": _totals_to_document(ledger.days),
        "months": _totals_to_document(ledger.months),
    }


def ledger_from_document(document: Mapping[str, Any]) -> SpendLedger:
    """Read a ledger; LedgerUnreadableError names what is wrong."""
    version = document.get("version")
    if version != VERSION:
        raise LedgerUnreadableError(f"spend ledger: version {version!r} is not {VERSION}")
    try:
        entries = [_entry_from_document(item) for item in document.get("open", [])]
        return SpendLedger(
            open={entry.pod_uid: entry for entry in entries},
            closed={str(uid): int(ended) for uid, ended in document.get("closed", {}).items()},
            runs=_totals_from_document(document.get("runs", {})),
            hours=_totals_from_document(document.get("hours", {})),
            days=_totals_from_document(document.get("days", {})),
            months=_totals_from_document(document.get("months", {})),
            forgotten_until_ms=int(document.get("forgottenUntilMs", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise LedgerUnreadableError(f"spend ledger: {type(error).__name__} {error}") from error


def _entry_to_document(entry: OpenEntry) -> dict[str, Any]:
    return {
        "podUid": entry.pod_uid,
        "run": entry.run,
        "pool": entry.pool_name,
        "price": str(entry.price_per_hour),
        "onDemandPrice": str(entry.on_demand_price_per_hour),
        "sinceMs": entry.since_ms,
        "settledUntilMs": entry.settled_until_ms,
        "scoring": entry.scoring,
        "silent": entry.silent,
    }


def _entry_from_document(item: Mapping[str, Any]) -> OpenEntry:
    return OpenEntry(
        str(item["podUid"]),
        str(item["run"]),
        str(item["pool"]),
        Decimal(item["price"]),
        Decimal(item["onDemandPrice"]),
        int(item["sinceMs"]),
        int(item["settledUntilMs"]),
        scoring=bool(item.get("scoring", True)),
        silent=bool(item.get("silent", False)),
    )


def _totals_to_document(totals: Mapping[str, Total]) -> dict[str, list[Any]]:
    return {
        key: [str(total.price_milliseconds), str(total.on_demand_milliseconds), total.worker_milliseconds]
        for key, total in totals.items()
    }


def _totals_from_document(totals: Mapping[str, Any]) -> dict[str, Total]:
    return {str(key): Total(Decimal(paid), Decimal(od), int(ms)) for key, (paid, od, ms) in totals.items()}
