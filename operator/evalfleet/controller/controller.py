"""The operator's heart: keys from the queue, worlds from the cache, decisions from the core, actions to the API."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.controller.cache import Cache
from evalfleet.controller.events import EventRecorder
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.observe import INDICES, Memory, Observer, policy_name
from evalfleet.controller.queue import WorkQueue
from evalfleet.controller.settings import Settings
from evalfleet.controller.status import PROGRESS_WRITE_SECONDS, StatusWriter
from evalfleet.kube.client import CONFLICT, TOO_MANY_REQUESTS, UNREACHABLE, Kube, KubeError
from evalfleet.kube.resources import WATCHED, Key, collection_path, key_of, object_path
from evalfleet.kube.spend import SpendBook
from evalfleet.manifests.names import LABEL_POOL, LABEL_ROLE, LABEL_RUN, LABEL_SLOT
from evalfleet.reconcile.conditions import Condition
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.terminal import held, stamp
from evalfleet.reconcile.job.world import FleetVerdict
from evalfleet.reconcile.job.world import World as JobWorld
from evalfleet.reconcile.ownership import NameTakenError, require_same_owner
from evalfleet.reconcile.policy.decide import Decide, Outcome, reconcile
from evalfleet.reconcile.policy.figures import figures, transitions
from evalfleet.reconcile.policy.gather import World as FleetWorld
from evalfleet.reconcile.policy.pools import currency
from evalfleet.reconcile.policy.report import policy_status, refused_status
from evalfleet.reconcile.policy.seen import PoolsSeen
from evalfleet.reconcile.policy.settle import account, job_money
from evalfleet.reconcile.steps import Action, Create, Delete, Step
from evalfleet_scaling.memory import FleetMemory
from evalfleet_scaling.spend import SpendLedger
from evalfleet_scaling.spend_document import LedgerUnreadableError

log = logging.getLogger(__name__)

FLEET_TICK_SECONDS = 1.0
PROBLEM_SECONDS = 30.0
REFUSED_SECONDS = 5.0
OURS = frozenset({"EvaluationJob", "ScalingPolicy"})
"""Kinds whose status nobody but this operator writes."""
REFUSED = frozenset({400, 403, 422})
"""Answers that mean: this object as it is, not: the API server has a bad moment."""


def always() -> bool:
    """Without leader election nobody else acts."""
    return True


class Controller:
    """Reconciles keys: EvaluationJobs one by one, ScalingPolicies with all their jobs together."""

    def __init__(
        self,
        kube: Kube,
        settings: Settings,
        telemetry: Telemetry,
        decide_fleet: Decide,
        holds: Callable[[], bool] = always,
    ) -> None:
        self.kube = kube
        self.settings = settings
        self.telemetry = telemetry
        self.cache = Cache(INDICES)
        self.memory = Memory()
        self.observer = Observer(self.cache, self.memory, settings)
        # One pass of a policy decides for all its jobs: it does not wait behind the passes of every one of them.
        self.queue: WorkQueue[Key] = WorkQueue(urgent=lambda key: key.kind == "ScalingPolicy")
        self._started: dict[Key, float] = {}
        self.spend = SpendBook(kube, settings.namespace)
        self._decide_fleet = decide_fleet
        self._holds = holds
        events = EventRecorder(kube, "evalfleet", settings.identity, kube.clock.now)
        self._statuses = StatusWriter(kube, self.cache, telemetry, events)

    # In: what the API server tells

    def deliver(self, kind: str, event_type: str | None, body: Mapping[str, Any]) -> None:
        """One watch event: keep it and queue what it concerns."""
        self.telemetry.watch_events.labels(kind).inc()
        key = key_of(kind, body)
        before = self.cache.get(key)
        if event_type == "DELETED":
            if self.cache.remove(kind, body):
                self.concern(kind, body)
        elif self.cache.put(kind, body):
            if kind not in OURS or before is None or _asked(before) != _asked(body):
                self.concern(kind, body)
            elif kind == "EvaluationJob":
                self.queue.add(key)  # a status is our own word: whom else it concerns was told when it was written

    def concern(self, kind: str, body: Mapping[str, Any]) -> None:
        """Queue the EvaluationJob and the policy that an object belongs to."""
        namespace = str(body["metadata"].get("namespace") or "")
        if kind == "EvaluationJob":
            self.queue.add(key_of(kind, body))
            self.queue.add(self.observer.policy_key(body))
        elif kind == "ScalingPolicy":
            self.queue.add(key_of(kind, body))
            for job in self.cache.of_kind("EvaluationJob", namespace):
                if self.observer.policy_key(job) == key_of(kind, body):
                    self.queue.add(key_of("EvaluationJob", job))
        else:
            owner = self.observer.evaluation_job(namespace, str((body["metadata"].get("labels") or {}).get(LABEL_RUN)))
            if owner is not None:
                self.concern("EvaluationJob", owner)

    # The loop

    async def work(self) -> None:
        """Process keys for ever; an error concerns its key alone and comes back with back-off."""
        while True:
            key = await self.queue.get()
            started = self._started[key] = time.monotonic()
            result = "success"
            try:
                await self._reconcile(key)
                self.queue.forget(key)
            except (*UNREACHABLE, KubeError) as error:
                result = "retry"
                wanted = error.retry_after_seconds if isinstance(error, KubeError) else 0.0
                log.warning("%s; again in %.1f s", error, self.queue.retry(key, wanted), extra={"object": key})
            except Exception:
                result = "error"
                log.exception("a fault; again in %.1f s", self.queue.retry(key), extra={"object": key})
            finally:
                self.queue.done(key)
                del self._started[key]
                self.telemetry.queue_depth.set(len(self.queue))
                self.telemetry.reconciles.labels(key.kind, result).inc()
                self.telemetry.reconcile_seconds.labels(key.kind).observe(time.monotonic() - started)
            await asyncio.sleep(0)  # a thousand passes without I/O in a row must not keep the Lease from its renewal

    def busy_seconds(self) -> float:
        """How long the longest reconciliation has been running; 0 = none runs."""
        return max((time.monotonic() - started for started in self._started.values()), default=0.0)

    async def _reconcile(self, key: Key) -> None:
        if not self._holds():
            raise KubeError(CONFLICT, "the Lease was not renewed in time: another operator may lead")
        if key.kind == "EvaluationJob":
            await self._reconcile_job(key)
        else:
            await self._reconcile_fleet(key)

    async def _reconcile_job(self, key: Key) -> None:
        body, world = self.cache.get(key), self.observer.job_world(key, self.kube.clock.now())
        if body is None or world is None:
            self._statuses.forget(key)
            return
        step = decide(world)
        try:
            await self._apply(step.actions)
        except KubeError as error:
            if _is_refusal(error):
                await self._write(key, body, world, replace(step, conditions=_refusal(step.conditions, error)))
            raise
        await self._write(key, body, world, step)
        if step.requeue_seconds is not None:
            self.queue.add_after(key, step.requeue_seconds)

    async def _write(self, key: Key, body: Mapping[str, Any], world: JobWorld, step: Step) -> None:
        written = await self._statuses.write_job(body, world, step)
        if written.held_back:
            self.queue.add_after(key, PROGRESS_WRITE_SECONDS)
        if written.body is not None and written.is_news:  # its echo is no news: what it changes is seen here
            self.concern("EvaluationJob", written.body)
        await self._statuses.tell(written)

    async def _reconcile_fleet(self, key: Key) -> None:
        now = self.kube.clock.now()
        worlds = self.observer.policy_worlds(key, now)
        policy, problem = self.observer.policy(key.namespace, key.name)
        trouble = ("InvalidSpec", f"the policy cannot be read: {problem}") if problem else None
        try:
            ledger = await self._settle(key, policy, worlds, now)
        except LedgerUnreadableError as error:  # deciding without it could spend what a limit forbids
            trouble = trouble or ("LedgerUnreadable", f"what was spent cannot be read: {error}")
        if trouble is not None:
            await self._refuse(key, worlds, *trouble)
            return
        memory, seen = self.memory.fleets.get(key, (FleetMemory(), PoolsSeen()))
        world = FleetWorld(now, policy, worlds, memory, seen, ledger)
        outcome = reconcile(world, self._decide_fleet)
        self._measure(key, world, outcome)
        refused = await self._apply_each(outcome.actions)
        without_worker = {uid: error for uid, error in refused.items() if uid in worlds and not worlds[uid].workers}
        outcome = replace(outcome, verdicts=_told_refusals(outcome.verdicts, without_worker))
        self._remember(key, world, outcome)
        await self._statuses.write_policy(key, lambda before, at: policy_status(world, before, at, outcome))
        unexpected = next((refusal for refusal in refused.values() if not _is_refusal(refusal)), None)
        if unexpected is not None:
            raise unexpected
        if outcome.verdicts or ledger.open:
            self.queue.add_after(key, REFUSED_SECONDS if refused else FLEET_TICK_SECONDS)

    def _measure(self, key: Key, world: FleetWorld, outcome: Outcome) -> None:
        """Metrics of a policy; those of one that is gone go with its last job."""
        self.telemetry.count(key, transitions(world, outcome.seen))
        if world.policy is None and not world.jobs:
            self.telemetry.policies.figures.pop(key, None)
        else:
            self.telemetry.policies.figures[key] = figures(world)

    async def _refuse(self, key: Key, worlds: Mapping[str, JobWorld], reason: str, problem: str) -> None:
        """Decide nothing: what runs is left alone, jobs that were told nothing yet hear why."""
        now = self.kube.clock.now()
        for uid, job in worlds.items():
            if uid not in self.memory.verdicts and self._told(uid, FleetVerdict(False, 0, reason, problem)):
                self.queue.add(Key("EvaluationJob", job.identity.namespace, job.identity.name))
        await self._statuses.write_policy(key, lambda before, at: refused_status(before, at, (reason, problem), now))
        self.queue.add_after(key, PROBLEM_SECONDS)

    async def _settle(
        self, key: Key, policy: ScalingPolicy | None, worlds: Mapping[str, JobWorld], now: datetime
    ) -> SpendLedger:
        """The policy's spend ledger up to now, written before anything is decided on it."""
        before = await self.spend.read(key, now.timestamp())
        pods = self.observer.paid_pods(key.namespace, worlds, policy, before.open)
        ledger = account(before, pods, self.observer.runs(key.namespace), now)
        await self.spend.keep(key, ledger, now.timestamp())
        self._remember_money(key, before, ledger, currency(policy))
        return ledger

    def _remember(self, key: Key, world: FleetWorld, outcome: Outcome) -> None:
        """What the next passes need; jobs whose verdict changed look again."""
        self.memory.fleets[key] = (outcome.decision.memory, outcome.seen)
        for uid, job in world.jobs.items():
            self.memory.etas.pop(uid, None)
            if self._told(uid, outcome.verdicts.get(uid)):
                self.queue.add(Key("EvaluationJob", job.identity.namespace, job.identity.name))
        self.memory.etas.update(outcome.etas)

    def _remember_money(self, key: Key, before: SpendLedger, ledger: SpendLedger, unit: str) -> None:
        """Remember what runs cost; one whose last worker was paid just now, or before we began, looks again."""
        paid_for = {entry.run for entry in ledger.open.values()}
        was_paid_for = {entry.run for entry in before.open.values()}
        ended = (was_paid_for | (ledger.runs.keys() - self.memory.money.keys())) - paid_for
        for run in paid_for | ended:
            money = job_money(ledger, run, unit)
            if money is not None:
                self.memory.money[run] = money
        for run in ended:
            body = self.observer.evaluation_job(key.namespace, run)
            if body is not None:
                self.queue.add(key_of("EvaluationJob", body))

    def _told(self, uid: str, verdict: FleetVerdict | None) -> bool:
        """Remember the Fleet's words about a job; whether they are others than before, times left aside."""
        if verdict is None:
            return False
        before = self.memory.verdicts.get(uid)
        self.memory.verdicts[uid] = verdict
        return before is None or replace(before, message="") != replace(verdict, message="")

    # Out: actions and status

    async def _apply(self, actions: tuple[Action, ...]) -> None:
        for action in actions:
            if isinstance(action, Create):
                await self._create(dict(action.body))
            else:
                await self._delete(action)

    async def _apply_each(self, actions: tuple[Action, ...]) -> dict[str, KubeError]:
        """Apply all actions of a policy; one that is refused harms only its own job. Returns refusals by run."""
        refused: dict[str, KubeError] = {}
        for action in actions:
            run = _run_of(action)
            if run in refused:
                continue  # the next worker of the same job would be refused as well
            try:
                await self._apply((action,))
            except KubeError as error:
                if error.status == TOO_MANY_REQUESTS:
                    raise  # every further request makes it worse
                log.warning("%s", error)
                refused[run] = error
        return refused

    async def _create(self, body: dict[str, Any]) -> None:
        """Create if absent; an object of another owner under our name is an error that names it."""
        kind, key = str(body["kind"]), key_of(str(body["kind"]), body)
        try:
            created, is_new = await self.kube.create(collection_path(kind, key.namespace), body), True
        except KubeError as error:
            if error.status != CONFLICT:
                raise
            created, is_new = await self.kube.get(object_path(key)), False
            require_same_owner(body, created)
        created.setdefault("kind", kind)
        labels = body["metadata"].get("labels") or {}
        owner = self.observer.evaluation_job(key.namespace, str(labels.get(LABEL_RUN)))
        if labels.get(LABEL_ROLE) == "work":
            slot, generation = int(labels[LABEL_SLOT]), int(key.name.rsplit("-", 1)[-1])
            known = self.memory.generations.setdefault(labels[LABEL_RUN], {})
            known[slot] = max(generation, known.get(slot, 0))
            if is_new and owner is not None:
                self.telemetry.worker_starts.labels(key.namespace, policy_name(owner), labels[LABEL_POOL]).inc()
        # What is not watched is not kept; what was there already is no news: a refused job would never come to rest.
        if kind in WATCHED and self.cache.put(kind, created) and owner is not None:
            self.queue.add(key_of("EvaluationJob", owner))

    async def _delete(self, action: Delete) -> None:
        key = Key(action.kind, action.namespace, action.name)
        await self.kube.delete(object_path(key), uid=action.uid, propagation="Background")
        self.cache.mark_deleting(key, stamp(self.kube.clock.now()))
        if action.kind == "Job":
            self.telemetry.child_deletions.inc()


def _is_refusal(error: KubeError) -> bool:
    """Whether the API server refuses the object as it is: a failed call alone says nothing about it."""
    return isinstance(error, NameTakenError) or error.status in REFUSED


def _refusal(stated: tuple[Condition, ...], error: KubeError) -> tuple[Condition, ...]:
    """What a job says whose child the API server refuses; it is tried again, for quota and policy may change."""
    return (*stated, *held(*_refusal_words(error)))


def _refusal_words(error: KubeError) -> tuple[str, str]:
    """Reason and message of a refused child; a full quota is waited for, and so is the end of a predecessor."""
    if isinstance(error, NameTakenError) and error.passes:
        return "WaitingForCleanup", str(error).removeprefix(f"{CONFLICT}: ")
    if "exceeded quota" in str(error):
        return "WaitingForQuota", f"a ResourceQuota of the namespace is used up: {error}"
    return "ObjectRefused", f"the API server refuses an object of this job: {error}"


def _told_refusals(verdicts: Mapping[str, FleetVerdict], refused: Mapping[str, KubeError]) -> dict[str, FleetVerdict]:
    """The Fleet's verdicts, with the words of the API server where it refuses the first worker of a job."""
    told = dict(verdicts)
    for uid, error in refused.items():
        if uid in told:
            reason, message = _refusal_words(error)
            told[uid] = replace(told[uid], admitted=False, reason=reason, message=message)
    return told


def _run_of(action: Action) -> str:
    """The run that an action creates something for; a deletion stands for itself."""
    if isinstance(action, Delete):
        return action.name
    return str((action.body["metadata"].get("labels") or {}).get(LABEL_RUN, ""))


def _asked(body: Mapping[str, Any]) -> tuple[Any, ...]:
    """What people ask of an object, as far as the API server counts it."""
    return tuple(body["metadata"].get(name) for name in ("uid", "generation", "deletionTimestamp"))
