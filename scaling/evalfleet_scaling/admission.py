"""Admission: which deadlines the on-demand quota can guarantee, and the earliest feasible one for the others.

Spot is never counted. Promises are feasible when every one gets its minimum satisfactory share (`promises`), in order
of deadlines. Money is checked in the same order: the cost of the guaranteed work due until D must be covered by what
the policy may spend until D.
"""

from dataclasses import dataclass, replace
from math import ceil, inf

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.promises import ROUNDING, Promises, minimum_satisfactory_shares

_DAY = 86_400.0
_MONTH = 31 * _DAY
_TOLERANCE = 0.01  # of the earliest feasible deadline; it is named late rather than early
_SMALLEST_STEP = 60.0
# Jobs that share workers are interrupted for each other and come in whole workers: measured on the replays of
# docs/fleet.md, promises up to 100 % of a shared quota missed by up to a minute, up to 95 % by nothing.
_SHARED_QUOTA = 0.95
_LARGEST_DEADLINE = 10 * 365 * _DAY


@dataclass(frozen=True, slots=True)
class Capacity:
    """What promises may rest on: on-demand workers, and money that the policy may still spend."""

    quota_workers: float
    cost_per_worker_second: float = 0.0
    left_this_day: float = inf
    per_day: float = inf
    left_this_month: float = inf
    per_month: float = inf
    day_ends_seconds: float = _DAY  # from now: then the next day's money may be spent
    month_ends_seconds: float = _MONTH

    def spendable_until(self, seconds: FloatArray) -> FloatArray:
        """Money that may be spent from now until `seconds` from now: what is left, and of periods that begin."""
        by_day = self.left_this_day + _periods(seconds - self.day_ends_seconds, _DAY, self.per_day)
        by_month = self.left_this_month + _periods(seconds - self.month_ends_seconds, _MONTH, self.per_month)
        return np.minimum(by_day, by_month)


@dataclass(frozen=True, slots=True)
class Admissions:
    """Answers to requests, one row each. `earliest` [s from now] is named in a refusal; inf: never feasible."""

    admitted: BoolArray
    decided: BoolArray  # False: too many requests at once, ask again
    earliest: FloatArray
    short_of_money: BoolArray


def is_feasible(promises: Promises, capacity: Capacity) -> bool:
    """Whether quota and money keep every promise."""
    return shortage(promises, capacity) == ""


def shortage(promises: Promises, capacity: Capacity) -> str:
    """What is short first, "quota" or "money"; empty when every promise can be kept."""
    if len(promises) == 0:
        return ""
    if capacity.quota_workers <= 0:
        return "quota" if bool((promises.work > 0).any()) else ""
    shares = minimum_satisfactory_shares(promises, _promised_quota(promises, capacity))
    if bool((shares.residual > ROUNDING).any()):
        return "quota"
    return "money" if _is_short_of_money(promises, shares.workers, capacity) else ""


def admit(committed: Promises, requests: Promises, capacity: Capacity, max_fills: int) -> Admissions:
    """Decide `requests` in their order on top of `committed` promises, with about `max_fills` fills at most.

    Requests are tested together first and halved only where that fails, so that a feasible batch costs one fill. A
    committed promise that no longer fits counts with what does fit: it must not block every later request.
    """
    if len(requests) == 0:
        none = np.zeros(0, dtype=np.bool_)
        return Admissions(none, none, np.zeros(0), none)
    desk = _Desk(_clipped(committed, capacity), requests, capacity, max_fills)
    desk.decide(np.arange(len(requests)))
    return desk.admissions


def earliest_deadline(accepted: Promises, request: Promises, capacity: Capacity) -> float:
    """The earliest deadline [s from now] with which the one-row `request` would be accepted; inf: there is none.

    Up to 1 % later than the exact one, and always tested: the deadline named is accepted when it is asked for.
    """
    width = min(float(request.width[0]), float(capacity.quota_workers))
    if width <= 0:
        return inf
    low = float(request.start_cost[0] + request.work[0] / width)

    def accepts(deadline: float) -> bool:
        asked = replace(request, deadline=np.array([deadline]))
        return is_feasible(accepted.plus(asked), capacity)

    high = max(2 * low, _SMALLEST_STEP)
    while high <= _LARGEST_DEADLINE and not accepts(high):
        low, high = high, 4 * high
    if high > _LARGEST_DEADLINE:
        return inf
    while high - low > max(_TOLERANCE * high, _SMALLEST_STEP):
        middle = (low + high) / 2
        low, high = (low, middle) if accepts(middle) else (middle, high)
    rounded = float(ceil(high))
    return rounded if accepts(rounded) else high


def _promised_quota(promises: Promises, capacity: Capacity) -> float:
    """The whole quota while every promise could have its full width at once, a little less where they share."""
    shared = bool(promises.width.sum() > capacity.quota_workers)
    return _SHARED_QUOTA * capacity.quota_workers if shared else capacity.quota_workers


def _periods(after_the_first: FloatArray, length: float, amount: float) -> FloatArray:
    """Money of the periods that begin until then, `after_the_first` [s] from the end of the running one."""
    begun = np.maximum(np.floor(after_the_first / length) + 1, 0.0)
    return np.zeros_like(after_the_first) if amount == inf else begun * amount


def _is_short_of_money(promises: Promises, workers: FloatArray, capacity: Capacity) -> bool:
    if capacity.left_this_day == inf and capacity.left_this_month == inf:
        return False
    starts = np.maximum(np.ceil(workers - ROUNDING) - promises.running, 0.0)
    order = promises.edf()
    cost = capacity.cost_per_worker_second * (promises.work + starts * promises.start_cost)[order].cumsum()
    return bool((cost > capacity.spendable_until(promises.deadline[order])).any())


def _clipped(committed: Promises, capacity: Capacity) -> Promises:
    """Committed promises reduced to the work that fits, a hair less so that the result is feasible."""
    if len(committed) == 0:
        return committed
    if capacity.quota_workers <= 0:
        return replace(committed, work=np.zeros(len(committed)))
    residual = minimum_satisfactory_shares(committed, _SHARED_QUOTA * capacity.quota_workers).residual
    fitting = np.maximum(committed.work - residual - 1.0, 0.0) * (1 - 1e-9)
    return replace(committed, work=np.where(residual > 0, fitting, committed.work))


class _Desk:
    """Takes requests in order; remembers what was accepted and how many fills are left."""

    def __init__(self, accepted: Promises, requests: Promises, capacity: Capacity, max_fills: int) -> None:
        count = len(requests)
        self._accepted = accepted
        self._requests = requests
        self._capacity = capacity
        self._fills_left = max_fills
        self.admissions = Admissions(
            admitted=np.zeros(count, dtype=np.bool_),
            decided=np.zeros(count, dtype=np.bool_),
            earliest=np.full(count, inf),
            short_of_money=np.zeros(count, dtype=np.bool_),
        )

    def decide(self, rows: IntArray) -> None:
        """Accept all when that is feasible; else decide the halves, the first half first."""
        if len(rows) == 0 or self._fills_left <= 0:
            return
        together = self._accepted.plus(self._requests.take(rows))
        self._fills_left -= 1
        short_of = shortage(together, self._capacity)
        if short_of == "":
            self._accepted = together
            self.admissions.admitted[rows] = True
            self.admissions.decided[rows] = True
        elif len(rows) == 1:
            self._refuse(rows, short_of)
        else:
            middle = len(rows) // 2
            self.decide(rows[:middle])
            self.decide(rows[middle:])

    def _refuse(self, rows: IntArray, short_of: str) -> None:
        self._fills_left -= 8  # about what the search below costs
        request = self._requests.take(rows)
        self.admissions.decided[rows] = True
        self.admissions.short_of_money[rows] = short_of == "money"
        self.admissions.earliest[rows] = earliest_deadline(self._accepted, request, self._capacity)
