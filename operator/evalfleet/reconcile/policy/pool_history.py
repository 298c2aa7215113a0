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
from evalfleet.reconcile.job.state import JobState, WorkerView
from evalfleet.reconcile.liveness import THROWN_OUT, moment
from evalfleet.reconcile.pod_reasons import Whose
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
    asks: bool = True
    """Whether it waits for nothing but a node of its pool."""


@dataclass(frozen=True, slots=True)
class PoolHistories:
    """What the pools showed.

    Attributes:
        histories: by pool.
        workers: workers alive by name of their Job.
        good_since: since when each pool has neither failed nor reclaimed.
        gave: when each pool last gave a node, and to which run.
    """

    histories: Mapping[str, PoolHistory] = field(default_factory=dict)
    workers: Mapping[str, LiveWorker] = field(default_factory=dict)
    good_since: Mapping[str, float] = field(default_factory=dict)
    gave: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    @property
    def overdue(self) -> frozenset[str]:
        """Workers whose launch counts as failed."""
        return frozenset(name for name, worker in self.workers.items() if worker.overdue)


def follow(before: PoolHistories, pools: Iterable[Pool], jobs: Mapping[str, JobState], now: datetime) -> PoolHistories:
    """The next state after looking at all workers of a policy's jobs."""
    named = {pool.name: pool for pool in pools}
    fold = _Fold(before, named, now.timestamp())
    found = [(uid, job, view) for uid, job in jobs.items() for view in job.workers if view.pool in named]
    for uid, _, view in found:  # what a pool gives to one shows what another one's waiting means
        fold.note_gift(uid, view)
    present = {view.child.name: view for _, _, view in found}
    alive = {view.child.name: fold.look(uid, job, view) for uid, job, view in found if not _is_over(view)}
    for name, worker in before.workers.items():
        if name not in alive and worker.pool in named:
            last = present.get(name)
            fold.end(worker, preempted=last is not None and _is_taken(last))
    return PoolHistories(fold.histories, alive, fold.good_since, fold.gave)


def observations(known: PoolHistories, pools: Iterable[Pool], now: datetime) -> tuple[PoolObservation, ...]:
    """What decisions read: spot is offered as long as nothing waits for it longer than planned.

    A firm pool cools down only while another one is there to be tried: guarantees rest on them.
    """
    pools = tuple(pools)
    used = Counter(worker.pool for worker in known.workers.values() if not worker.overdue)
    late = {
        worker.pool
        for worker in known.workers.values()
        if worker.asks
        and not worker.on_node
        and now.timestamp() - worker.created_seconds > _planned(known, worker.pool, pools)
    }
    found = []
    for pool in pools:
        history = _with_the_living(known, known.histories.get(pool.name, PoolHistory(pool.name)), now)
        if not pool.is_spot:
            cooling = history.cool_down_until_seconds if _has_an_alternative(pool, pools, known, now) else None
            found.append(replace(observe_pool(pool, history, Offer()), cool_down_until_seconds=cooling))
            continue
        free = 0 if pool.name in late else max(pool.max_workers - used[pool.name], 0)
        found.append(observe_pool(pool, history, Offer(free, known.good_since.get(pool.name))))
    return tuple(found)


def _has_an_alternative(pool: Pool, pools: Iterable[Pool], known: PoolHistories, now: datetime) -> bool:
    """Whether another firm pool gives nodes, as far as is known."""
    firm = (other for other in pools if not other.is_spot and other.max_workers > 0 and other.name != pool.name)
    return any(not cools_down(known, other.name, now) for other in firm)


def standing_aside(known: PoolHistories, pools: Iterable[Pool], now: datetime) -> tuple[frozenset[str], frozenset[str]]:
    """Workers that no node came for, so that nobody counts on them; and those of them that go on asking, one a pool.

    Something has to ask for a node, or none will ever come. In a firm pool without an alternative all go on asking.
    """
    pools = tuple(pools)
    tried_elsewhere = {pool.name for pool in pools if pool.is_spot or _has_an_alternative(pool, pools, known, now)}
    aside = {
        name: worker for name, worker in known.workers.items() if worker.overdue and worker.pool in tried_elsewhere
    }
    oldest = sorted(aside, key=lambda name: (aside[name].created_seconds, name), reverse=True)
    return frozenset(aside), frozenset({aside[name].pool: name for name in oldest}.values())


def cools_down(known: PoolHistories, pool: str, now: datetime) -> bool:
    """Whether a pool has failed to give a node a short while ago."""
    until = known.histories.get(pool, PoolHistory(pool)).cool_down_until_seconds
    return until is not None and until > now.timestamp()


def patience_seconds(known: PoolHistories, pool: Pool) -> float:
    """How long a worker may wait for a node of a pool, and then again until it runs there.

    Start-ups on nodes that were there say nothing of how long a new node takes: never below the policy's own.
    """
    return limits.LAUNCH_STARTUPS * max(_planned(known, pool.name, (pool,)), pool.expected_startup_seconds)


def asks_only(known: PoolHistories, uid: str, job: JobState, view: WorkerView) -> bool:
    """Whether a worker waits for nothing but a node of its pool.

    Not one whose job asks for more than the pool's nodes, nor one that waits while the pool gives to another run.
    """
    pod, worker = view.child.pod, job.job.spec.worker if job.job is not None else None
    if pod is None or (view.child.whose is not None and view.child.whose is not Whose.NODE):
        return False
    if worker is not None and (worker.node_selector or worker.runtime_class_name):
        return False
    given_at, to = known.gave.get(view.pool, (0.0, uid))
    return to == uid or given_at <= asked_at(view).timestamp()


def asked_at(view: WorkerView) -> datetime:
    """Since when a worker asks for a node: a Job that is held back by a queue has no pod and asks for nothing."""
    created = None if view.child.pod is None else moment(view.child.pod["metadata"].get("creationTimestamp"))
    return created or view.created


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
    return (now - asked_at(view)).total_seconds() >= planned_startup_seconds


def _planned(known: PoolHistories, name: str, pools: Iterable[Pool]) -> float:
    prior = next((pool.expected_startup_seconds for pool in pools if pool.name == name), 0.0)
    return startup_quantile(known.histories.get(name, PoolHistory(name)).startups_seconds, 0.95, prior)


class _Fold:
    """Working copy of the histories; lives inside one fold."""

    def __init__(self, before: PoolHistories, pools: Mapping[str, Pool], now: float) -> None:
        self._before, self._pools, self._now = before, pools, now
        self.histories = {name: before.histories.get(name, PoolHistory(name)) for name in pools}
        self.good_since = {name: before.good_since.get(name, now) for name in pools}
        self.gave = {name: given for name, given in before.gave.items() if name in pools}
        self._failed: set[str] = set()

    def note_gift(self, uid: str, view: WorkerView) -> None:
        """Whether a worker got its node since the last look."""
        known = self._before.workers.get(view.child.name)
        if known is not None and not known.on_node and on_node(view.child.pod):
            self.gave[view.pool] = (self._now, uid)

    def look(self, uid: str, job: JobState, view: WorkerView) -> LiveWorker:
        """One worker that is alive."""
        known = self._before.workers.get(view.child.name)
        now = LiveWorker(
            pool=view.pool,
            created_seconds=asked_at(view).timestamp(),
            on_node=on_node(view.child.pod),
            ready=_scores(view, known),
            overdue=known is not None and known.overdue and not on_node(view.child.pod),
            asks=asks_only(replace(self._before, gave=self.gave), uid, job, view),
        )
        if known is None:
            return now
        if now.on_node and not known.on_node:
            self._note(view.pool, launched(self._history(view.pool), self._at(view.pool)))
        if view.progress is not None and now.ready and not known.ready:
            startup = max(0.0, self._now - now.created_seconds)
            self._note(view.pool, became_ready(self._history(view.pool), self._at(view.pool), startup))
        return self._overdue(now) if now.asks and not now.on_node and not now.overdue else now

    def end(self, worker: LiveWorker, *, preempted: bool) -> None:
        """A worker that was alive is gone; one that never had a node has not lived."""
        if not worker.on_node:
            return
        lived = max(0.0, self._now - worker.created_seconds)
        self._note(worker.pool, ended(self._history(worker.pool), self._at(worker.pool), lived, preempted=preempted))
        if preempted:
            self.good_since[worker.pool] = self._now

    def _overdue(self, worker: LiveWorker) -> LiveWorker:
        patience = patience_seconds(self._before, self._pools[worker.pool])
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


def _is_taken(view: WorkerView) -> bool:
    """Whether its machine was taken: what a kubelet throws out says nothing of how long machines live."""
    return view.child.gone is not None and view.child.gone.cause not in THROWN_OUT


def _is_over(view: WorkerView) -> bool:
    return view.deleting or view.child.phase not in (Phase.WAITING, Phase.RUNNING) or view.child.disrupted
