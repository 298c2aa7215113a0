"""From the pods of a policy's workers to its spend ledger: opened when bound to a node, closed when ended. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from evalfleet import limits
from evalfleet.reconcile.children import Object
from evalfleet.reconcile.job.state import Money
from evalfleet.reconcile.liveness import bound_at, unreachable_since
from evalfleet_scaling.spend import (
    SpendLedger,
    WorkerStarted,
    close_worker,
    forget_old,
    forget_run,
    observe_worker,
    open_worker,
    settle,
)

PRICES_END = Decimal(10) ** 9
"""Beyond every price that the API takes."""


@dataclass(frozen=True, slots=True)
class PaidPod:
    """A worker pod as the bill sees it.

    Attributes:
        uid: of the pod.
        run: uid of the EvaluationJob.
        pool: name of the pool.
        price_per_hour, on_demand_price_per_hour: of its worker.
        since: when it was bound to a node, by the API server's clock; None = not yet.
        ended: when its container ended; None = it runs.
        scoring: whether it was seen to score: what it costs on demand is counted from then on.
        last_sign: when its node fell silent; None while it answers.
    """

    uid: str
    run: str
    pool: str
    price_per_hour: Decimal
    on_demand_price_per_hour: Decimal
    since: datetime | None
    ended: datetime | None
    scoring: bool = True
    last_sign: datetime | None = None


def account(ledger: SpendLedger, pods: Iterable[PaidPod], runs: frozenset[str], now: datetime) -> SpendLedger:
    """The ledger after looking at every worker pod that exists, settled up to `now`.

    Runs whose EvaluationJob is gone are forgotten; the totals of hours, days and months keep them.
    """
    moment = now.timestamp()
    present = list(pods)
    for pod in present:
        ledger = _noted(ledger, pod, moment)
    vanished = set(ledger.open) - {pod.uid for pod in present}
    for uid in vanished:
        last_known = ledger.open[uid].settled_until_ms / 1000
        later = 0.0 if ledger.open[uid].silent else limits.LOST_POD_SECONDS
        ledger = close_worker(ledger, uid, max(last_known, min(moment, last_known + later)))
    ledger = settle(ledger, moment)
    for run in set(ledger.runs) - runs:
        ledger = forget_run(ledger, run)
    return forget_old(ledger, moment, frozenset(pod.uid for pod in present))


def job_money(ledger: SpendLedger, run: str, currency: str) -> Money | None:
    """What one run has cost, None before it cost anything."""
    total = ledger.runs.get(run)
    if total is None:
        return None
    per_hour = sum((entry.price_per_hour for entry in ledger.open.values() if entry.run == run), Decimal(0))
    return Money(total.cost, total.on_demand_equivalent, per_hour, currency)


def paid_pod(pod: Object, run: str, pool: str, prices: tuple[Decimal, Decimal]) -> PaidPod:
    """The bill's view of a worker pod; `prices` are its own and the on-demand one."""
    return PaidPod(
        uid=str(pod["metadata"]["uid"]),
        run=run,
        pool=pool,
        price_per_hour=prices[0],
        on_demand_price_per_hour=prices[1],
        since=bound_at(pod),
        ended=_ended(pod),
        last_sign=unreachable_since(pod),
    )


def written_price(text: object) -> Decimal | None:
    """The price that was written on a worker when it was started; None for what we did not write."""
    try:
        price = Decimal(str(text))
    except InvalidOperation:
        return None
    return price if price.is_finite() and 0 <= price < PRICES_END else None


def _silent_since(pod: PaidPod, now: float) -> float | None:
    return None if pod.last_sign is None else min(now, pod.last_sign.timestamp())


def _noted(ledger: SpendLedger, pod: PaidPod, now: float) -> SpendLedger:
    """The ledger with what one pod shows; a node whose clock is ahead of ours ends nothing in the future."""
    if pod.since is None:
        return ledger
    event = WorkerStarted(
        pod_uid=pod.uid,
        run=pod.run,
        pool_name=pod.pool,
        price_per_hour=pod.price_per_hour,
        on_demand_price_per_hour=pod.on_demand_price_per_hour,
        since_seconds=pod.since.timestamp(),
        scoring=pod.scoring,
    )
    ledger = observe_worker(open_worker(ledger, event), pod.uid, pod.scoring, _silent_since(pod, now))
    return ledger if pod.ended is None else close_worker(ledger, pod.uid, min(now, pod.ended.timestamp()))


def _ended(pod: Object) -> datetime | None:
    status: Mapping[str, Any] = pod.get("status") or {}
    if status.get("phase") not in ("Succeeded", "Failed"):
        return None
    states = [(entry.get("state") or {}).get("terminated") or {} for entry in status.get("containerStatuses") or []]
    times = [time for state in states if (time := _time(state.get("finishedAt"))) is not None]
    # Of a pod whose machine vanished nobody saw the container end: what is known is when its conditions last changed.
    changes = (_time(condition.get("lastTransitionTime")) for condition in status.get("conditions") or [])
    return max(times or [time for time in changes if time is not None], default=None)


def _time(text: object) -> datetime | None:
    return datetime.fromisoformat(str(text)) if text else None
