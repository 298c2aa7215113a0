"""What the workers of a policy show of its pools: launches, start-ups, lives, failed launches. Pure fold over passes.

The fold only counts what it saw change, so that a restarted operator learns nothing wrong from workers that are there
already; what it forgets (histories, cool-downs) makes the next decisions less smooth and nothing else.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from evalfleet import limits
from evalfleet.reconcile.children import Object, Phase
from evalfleet.reconcile.job.state import WorkerView
from evalfleet_scaling.model import Pool, PoolObservation
from evalfleet_scaling.spot.history import Life, PoolHistory, became_ready, ended, launch_failed, launched
from evalfleet_scaling.spot.statistics import Offer, observe_pool, startup_quantile

SCORING_STATES = frozenset({"Scoring", "Waiting", "Stopping", "Done"})


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """What is known of one worker that was not seen to end."""

    pool: str
    created_seconds: float
    on_node: bool = False
    ready: bool = False
    overdue: bool = False


@dataclass(frozen=True, slots=True)
class PoolHistories:
    """Histories of the pools, workers alive by name, and since when each pool has neither failed nor reclaimed."""

    histories: Mapping[str, PoolHistory] = field(default_factory=dict)
    workers: Mapping[str, LiveWorker] = field(default_factory=dict)
    good_since: Mapping[str, float] = field(default_factory=dict)

    @property
    def overdue(self) -> frozenset[str]:
        """Workers whose launch counts as failed."""
        return frozenset(name for name, worker in self.workers.items() if worker.overdue)


def follow(before: PoolHistories, pools: Iterable[Pool], workers: Iterable[WorkerView], now: datetime) -> PoolHistories:
    """The next state after looking at all workers of the policy."""
    named = {pool.name: pool for pool in pools}
    fold = _Fold(before, named, now.timestamp())
    present = {view.child.name: view for view in workers if view.pool in named}
    alive = {name: fold.look(view) for name, view in present.items() if not _is_over(view)}
    for name, worker in before.workers.items():
        if name not in alive and worker.pool in named:
            view = present.get(name)
            fold.end(worker, preempted=view is not None and view.child.disrupted)
    return PoolHistories(fold.histories, alive, fold.good_since)


def observations(known: PoolHistories, pools: Iterable[Pool], now: datetime) -> tuple[PoolObservation, ...]:
    """What decisions read: spot is offered as long as nothing waits for it longer than planned.

    On-demand pools have no cool-down: guarantees rest on them, and a pod that waits there is what calls for a node.
    """
    used = Counter(worker.pool for worker in known.workers.values() if not worker.overdue)
    late = {
        worker.pool
        for worker in known.workers.values()
        if not worker.on_node and now.timestamp() - worker.created_seconds > _planned(known, worker.pool, pools)
    }
    found = []
    for pool in pools:
        history = _with_the_living(known, known.histories.get(pool.name, PoolHistory(pool.name)), now)
        if not pool.is_spot:
            found.append(replace(observe_pool(pool, history, Offer()), cool_down_until_seconds=None))
            continue
        free = 0 if pool.name in late else max(pool.max_workers - used[pool.name], 0)
        found.append(observe_pool(pool, history, Offer(free, known.good_since.get(pool.name))))
    return tuple(found)


def _with_the_living(known: PoolHistories, history: PoolHistory, now: datetime) -> PoolHistory:
    """The history with workers that live as lives not ended: without them the first loss would look like the rule."""
    living = tuple(
        Life(max(0.0, now.timestamp() - worker.created_seconds), preempted=False)
        for worker in known.workers.values()
        if worker.pool == history.pool_name and worker.on_node
    )
    return replace(history, lives=(*history.lives, *living))


def is_scoring(view: WorkerView, planned_startup_seconds: float, now: datetime) -> bool:
    """Whether a worker works: it says so, or it runs, does not answer, and its planned start-up is over."""
    if view.child.phase is not Phase.RUNNING:
        return False
    if view.progress is not None:
        return view.progress.state in SCORING_STATES
    return (now - view.created).total_seconds() >= planned_startup_seconds


def _planned(known: PoolHistories, name: str, pools: Iterable[Pool]) -> float:
    prior = next((pool.expected_startup_seconds for pool in pools if pool.name == name), 0.0)
    return startup_quantile(known.histories.get(name, PoolHistory(name)).startups_seconds, 0.95, prior)


class _Fold:
    """Working copy of the histories; lives inside one fold."""

    def __init__(self, before: PoolHistories, pools: Mapping[str, Pool], now: float) -> None:
        self._before, self._pools, self._now = before, pools, now
        self.histories = {name: before.histories.get(name, PoolHistory(name)) for name in pools}
        self.good_since = {name: before.good_since.get(name, now) for name in pools}
        self._failed: set[str] = set()

    def look(self, view: WorkerView) -> LiveWorker:
        """One worker that is alive."""
        known = self._before.workers.get(view.child.name)
        now = LiveWorker(
            pool=view.pool,
            created_seconds=view.created.timestamp(),
            on_node=on_node(view.child.pod),
            ready=_scores(view, known),
            overdue=known is not None and known.overdue,
        )
        if known is None:
            return now
        if now.on_node and not known.on_node:
            self._note(view.pool, launched(self._history(view.pool), self._at(view.pool)))
        if view.progress is not None and now.ready and not known.ready:
            startup = max(0.0, self._now - now.created_seconds)
            self._note(view.pool, became_ready(self._history(view.pool), self._at(view.pool), startup))
        return self._overdue(now) if not now.on_node and not now.overdue else now

    def end(self, worker: LiveWorker, *, preempted: bool) -> None:
        """A worker that was alive is gone; one that never had a node has not lived."""
        if not worker.on_node:
            return
        lived = max(0.0, self._now - worker.created_seconds)
        self._note(worker.pool, ended(self._history(worker.pool), self._at(worker.pool), lived, preempted=preempted))
        if preempted:
            self.good_since[worker.pool] = self._now

    def _overdue(self, worker: LiveWorker) -> LiveWorker:
        # Start-ups on nodes that were there say nothing of how long a new node takes: never below the policy's own.
        longest = _planned(self._before, worker.pool, self._pools.values())
        patience = limits.LAUNCH_STARTUPS * max(longest, self._pools[worker.pool].expected_startup_seconds)
        if self._now - worker.created_seconds <= patience:
            return worker
        if worker.pool not in self._failed:  # one attempt, however many workers it was for
            self._failed.add(worker.pool)
            self._note(worker.pool, launch_failed(self._history(worker.pool), self._at(worker.pool)))
        self.good_since[worker.pool] = self._now
        return replace(worker, overdue=True)

    def _history(self, pool: str) -> PoolHistory:
        return self.histories[pool]

    def _note(self, pool: str, history: PoolHistory) -> None:
        self.histories[pool] = history

    def _at(self, pool: str) -> float:
        """Now, or the last event where a clock went back."""
        last = self.histories[pool].last_event_seconds
        return self._now if last is None else max(self._now, last)


def on_node(pod: Object | None) -> bool:
    """Whether a pod is bound to a node."""
    return pod is not None and bool((pod.get("spec") or {}).get("nodeName"))


def _scores(view: WorkerView, known: LiveWorker | None) -> bool:
    """Whether it scores; before its first answer as it was, and who ran before anybody looked counts as scoring."""
    if view.child.phase is not Phase.RUNNING:
        return False
    if view.progress is not None:
        return view.progress.state in SCORING_STATES
    return known is None or known.ready


def _is_over(view: WorkerView) -> bool:
    return view.deleting or view.child.phase not in (Phase.WAITING, Phase.RUNNING) or view.child.disrupted
