"""Spend ledger: which worker costs what since when, settled exactly once, as pure transitions.

An entry is open while its worker is paid for; settling moves `settled_until_ms` forward and adds the money in the same
step, so that no pod-second is counted twice whatever the order, number or delay of the events. Times are whole
milliseconds of Unix time; totals hold the *exact* sum of price x milliseconds and are divided only when they are read,
because a rounded sum of a thousand settlements depends on how often it was settled.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite

from evalfleet_scaling.checks import require_money, require_name
from evalfleet_scaling.errors import InvalidWorkerError

HOUR_MS = 3_600_000
_KEEP = {"hour": timedelta(days=3), "day": timedelta(days=70), "month": timedelta(days=800)}
_FORGET_CLOSED_MS = 24 * HOUR_MS
_MAX_GAP_HOURS = 24 * 366 * 5  # an interval longer than this is a broken clock, not a bill


@dataclass(frozen=True, slots=True)
class Total:
    """Exact sums over settled time; `price_milliseconds` is price per hour x milliseconds."""

    price_milliseconds: Decimal = Decimal(0)
    on_demand_milliseconds: Decimal = Decimal(0)
    worker_milliseconds: int = 0

    @property
    def cost(self) -> Decimal:
        """Money paid."""
        return self.price_milliseconds / HOUR_MS

    @property
    def on_demand_equivalent(self) -> Decimal:
        """Money the same seconds would have cost on demand."""
        return self.on_demand_milliseconds / HOUR_MS

    @property
    def saving(self) -> Decimal:
        """On-demand equivalent less what was paid."""
        return (self.on_demand_milliseconds - self.price_milliseconds) / HOUR_MS

    @property
    def worker_seconds(self) -> float:
        """Paid seconds of workers, start-up included."""
        return self.worker_milliseconds / 1000

    def plus(self, price: Decimal, on_demand: Decimal, milliseconds: int) -> "Total":
        """The total after `milliseconds` more at these hourly prices."""
        return Total(
            self.price_milliseconds + price * milliseconds,
            self.on_demand_milliseconds + on_demand * milliseconds,
            self.worker_milliseconds + milliseconds,
        )


@dataclass(frozen=True, slots=True)
class OpenEntry:
    """A worker that is being paid for."""

    pod_uid: str
    run: str
    pool_name: str
    price_per_hour: Decimal
    on_demand_price_per_hour: Decimal
    since_ms: int
    settled_until_ms: int
    scoring: bool = True  # what it would cost on demand counts from when it scored
    silent: bool = False  # its node does not answer: nothing more is paid until it does


@dataclass(frozen=True, slots=True)
class SpendLedger:
    """Open entries, tombstones of closed ones, totals per run and per UTC hour, day and month."""

    open: Mapping[str, OpenEntry] = field(default_factory=dict)
    closed: Mapping[str, int] = field(default_factory=dict)  # pod uid -> when it ended
    runs: Mapping[str, Total] = field(default_factory=dict)
    hours: Mapping[str, Total] = field(default_factory=dict)
    days: Mapping[str, Total] = field(default_factory=dict)
    months: Mapping[str, Total] = field(default_factory=dict)
    forgotten_until_ms: int = 0  # pods that began before this and are neither open nor closed are repeated events

    def spent(self, now_seconds: float) -> tuple[Decimal, Decimal, Decimal]:
        """Money settled in the UTC hour, day and month of `now_seconds`."""
        hour, day, month = _period_keys(milliseconds(now_seconds))
        return (
            self.hours.get(hour, Total()).cost,
            self.days.get(day, Total()).cost,
            self.months.get(month, Total()).cost,
        )


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker begins to cost money: its pod was bound to a node."""

    pod_uid: str
    run: str
    pool_name: str
    price_per_hour: Decimal
    on_demand_price_per_hour: Decimal
    since_seconds: float
    scoring: bool = True

    def __post_init__(self) -> None:
        require_name(InvalidWorkerError, "pod uid", self.pod_uid)
        require_name(InvalidWorkerError, f"run of pod {self.pod_uid}", self.run)
        require_money(InvalidWorkerError, f"pod {self.pod_uid}: price_per_hour", self.price_per_hour)
        require_money(
            InvalidWorkerError, f"pod {self.pod_uid}: on_demand_price_per_hour", self.on_demand_price_per_hour
        )
        milliseconds(self.since_seconds)


def milliseconds(seconds: float) -> int:
    """Whole milliseconds of a time in seconds; InvalidWorkerError when it is not a finite number."""
    if not isfinite(seconds):
        raise InvalidWorkerError(f"time {seconds!r} is not a finite number of seconds")
    return round(seconds * 1000)


def ends_of_periods(now_seconds: float) -> tuple[float, float]:
    """Seconds to the end of the UTC day and of the UTC month; a day and 31 beyond the calendar."""
    try:
        now = _EPOCH + timedelta(seconds=now_seconds)
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        month = (day.replace(day=1) + timedelta(days=31)).replace(day=1)
        return (day + timedelta(days=1) - now).total_seconds(), (month - now).total_seconds()
    except OverflowError:
        return 86_400.0, 31 * 86_400.0


def open_worker(ledger: SpendLedger, event: WorkerStarted) -> SpendLedger:
    """Open an entry, once: a pod that is open, closed or forgotten is left as it is."""
    since = milliseconds(event.since_seconds)
    known = event.pod_uid in ledger.open or event.pod_uid in ledger.closed
    if known or since < ledger.forgotten_until_ms:
        return ledger
    entry = OpenEntry(
        event.pod_uid,
        event.run,
        event.pool_name,
        event.price_per_hour,
        event.on_demand_price_per_hour,
        since,
        since,
        scoring=event.scoring,
    )
    return replace(ledger, open={**ledger.open, event.pod_uid: entry})


def observe_worker(ledger: SpendLedger, pod_uid: str, scoring: bool, silent_since: float | None) -> SpendLedger:
    """What is seen of an open worker: that it scores, once and for all, and that its node is silent, up to when."""
    entry = ledger.open.get(pod_uid)
    if entry is None:
        return ledger
    books = _Books(ledger)
    if silent_since is not None and not entry.silent:
        entry = books.settle_entry(entry, milliseconds(silent_since))
    seen = replace(entry, scoring=entry.scoring or scoring, silent=silent_since is not None)
    return books.ledger({**ledger.open, pod_uid: seen}, ledger.closed)


def settle(ledger: SpendLedger, now_seconds: float) -> SpendLedger:
    """Add the cost of every open entry up to `now_seconds`; a clock that went back adds nothing."""
    now = milliseconds(now_seconds)
    books = _Books(ledger)
    entries = {uid: entry if entry.silent else books.settle_entry(entry, now) for uid, entry in ledger.open.items()}
    return books.ledger(entries, ledger.closed)


def close_worker(ledger: SpendLedger, pod_uid: str, ended_seconds: float) -> SpendLedger:
    """Settle an entry up to its end and remove it in one step; an unknown or closed pod changes nothing."""
    entry = ledger.open.get(pod_uid)
    if entry is None:
        return ledger
    ended = milliseconds(ended_seconds)
    books = _Books(ledger)
    last = books.settle_entry(entry, ended)
    entries = {uid: other for uid, other in ledger.open.items() if uid != pod_uid}
    return books.ledger(entries, {**ledger.closed, pod_uid: max(ended, last.settled_until_ms)})


def change_price(ledger: SpendLedger, pod_uid: str, price_per_hour: Decimal, at_seconds: float) -> SpendLedger:
    """Settle at the old price up to `at_seconds`, then continue at the new one; unknown pods change nothing."""
    require_money(InvalidWorkerError, f"pod {pod_uid}: price_per_hour", price_per_hour)
    entry = ledger.open.get(pod_uid)
    if entry is None or entry.price_per_hour == price_per_hour:
        return ledger
    books = _Books(ledger)
    settled = books.settle_entry(entry, milliseconds(at_seconds))
    repriced = replace(settled, price_per_hour=price_per_hour)
    return books.ledger({**ledger.open, pod_uid: repriced}, ledger.closed)


def forget_old(ledger: SpendLedger, now_seconds: float, present: Container[str] = ()) -> SpendLedger:
    """Drop old tombstones and periods beyond their keeping; finished runs are kept by `forget_run`.

    A tombstone lives as long as its pod (`present`), and a day in any case: a listing may be late.

    Safe because a pod that begins before the moved `forgotten_until_ms` and is not open can only be a repeated event:
    every pod alive at that time is in `open`.
    """
    now = milliseconds(now_seconds)
    horizon = max(ledger.forgotten_until_ms, min([now - _FORGET_CLOSED_MS, *_beginnings(ledger)]))
    moment = _utc(now)
    return replace(
        ledger,
        closed={
            uid: ended for uid, ended in ledger.closed.items() if uid in present or ended >= now - _FORGET_CLOSED_MS
        },
        hours=_since(ledger.hours, (moment - _KEEP["hour"]).strftime(_FORMATS[0])),
        days=_since(ledger.days, (moment - _KEEP["day"]).strftime(_FORMATS[1])),
        months=_since(ledger.months, (moment - _KEEP["month"]).strftime(_FORMATS[2])),
        forgotten_until_ms=horizon,
    )


def forget_run(ledger: SpendLedger, run: str) -> SpendLedger:
    """Drop the total of a run that is gone; kept while a worker of it is open."""
    if any(entry.run == run for entry in ledger.open.values()):
        return ledger
    return replace(ledger, runs={name: total for name, total in ledger.runs.items() if name != run})


class _Books:
    """Working copy of the totals while entries are settled; lives inside one transition."""

    def __init__(self, ledger: SpendLedger) -> None:
        self._ledger = ledger
        self._runs = dict(ledger.runs)
        self._periods = (dict(ledger.hours), dict(ledger.days), dict(ledger.months))

    def settle_entry(self, entry: OpenEntry, until_ms: int) -> OpenEntry:
        """Add the cost from where the entry was settled to `until_ms`, split at UTC hours."""
        begin = entry.settled_until_ms
        if until_ms <= begin or until_ms - begin > _MAX_GAP_HOURS * HOUR_MS:
            return entry
        price, on_demand = entry.price_per_hour, entry.on_demand_price_per_hour if entry.scoring else Decimal(0)
        self._runs[entry.run] = self._runs.get(entry.run, Total()).plus(price, on_demand, until_ms - begin)
        while begin < until_ms:
            end = min(until_ms, (begin // HOUR_MS + 1) * HOUR_MS)
            for totals, key in zip(self._periods, _period_keys(begin), strict=True):
                totals[key] = totals.get(key, Total()).plus(price, on_demand, end - begin)
            begin = end
        return replace(entry, settled_until_ms=until_ms)

    def ledger(self, entries: Mapping[str, OpenEntry], closed: Mapping[str, int]) -> SpendLedger:
        """The ledger after the transition."""
        hours, days, months = self._periods
        return replace(
            self._ledger, open=entries, closed=closed, runs=self._runs, hours=hours, days=days, months=months
        )


_FORMATS = ("%Y-%m-%dT%H", "%Y-%m-%d", "%Y-%m")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _utc(time_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=time_ms)


def _period_keys(time_ms: int) -> tuple[str, str, str]:
    """Names of the UTC hour, day and month; they sort like time."""
    hour = _utc(time_ms).strftime(_FORMATS[0])
    return hour, hour[:10], hour[:7]


def _since(totals: Mapping[str, Total], oldest: str) -> dict[str, Total]:
    return {key: total for key, total in totals.items() if key >= oldest}


def _beginnings(ledger: SpendLedger) -> list[int]:
    return [entry.since_ms for entry in ledger.open.values()]
