"""The operator's loop: a key from the queue, its state, the decision, its application."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from evalfleet.controller.act import Actor, NotLeadingError
from evalfleet.controller.cache import Cache
from evalfleet.controller.events import EventRecorder
from evalfleet.controller.jobs import JobReconciler
from evalfleet.controller.memory import Memory
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.objects import INDICES
from evalfleet.controller.observe import Observer
from evalfleet.controller.parts import Parts
from evalfleet.controller.policies import PolicyReconciler
from evalfleet.controller.queue import WorkQueue
from evalfleet.controller.route import Router
from evalfleet.controller.settings import Settings
from evalfleet.controller.status import StatusWriter
from evalfleet.kube.client import UNREACHABLE, Kube, KubeError
from evalfleet.kube.resources import Key
from evalfleet.kube.runs import RunBook
from evalfleet.kube.spend import SpendBook
from evalfleet.reconcile.decision import Reconciler
from evalfleet.reconcile.policy.outcome import DecideFleet

log = logging.getLogger(__name__)


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
        decide_fleet: DecideFleet,
        holds: Callable[[], bool] = always,
    ) -> None:
        self.telemetry = telemetry
        self.clock = kube.clock
        self.memory = Memory()
        self.cache = Cache(INDICES, self.memory.note)
        # One pass of a policy decides for all its jobs: it does not wait behind the passes of every one of them.
        self.queue: WorkQueue[Key] = WorkQueue(urgent=lambda key: key.kind == "ScalingPolicy")
        self.router = Router(self.cache, self.memory, self.queue.add)
        self.runs = runs = RunBook(kube)
        self.observer = Observer(self.cache, self.memory, settings.site, runs)
        self.book = SpendBook(kube, settings.namespace)
        events = EventRecorder(kube, "evalfleet", settings.identity, kube.clock.now)
        parts = Parts(
            kube=kube,
            cache=self.cache,
            memory=self.memory,
            queue=self.queue,
            observer=self.observer,
            router=self.router,
            actor=Actor(kube, self.cache, self.memory, telemetry, self.queue.add, holds, runs),
            statuses=StatusWriter(kube, self.cache, telemetry, events),
            telemetry=telemetry,
            runs=runs,
        )
        self._reconcilers: dict[str, Reconciler[Key, Any, Any]] = {
            "EvaluationJob": JobReconciler(parts),
            "ScalingPolicy": PolicyReconciler(parts, self.book, decide_fleet),
        }
        self._holds = holds
        self._forbidden: frozenset[str] = frozenset()
        self._started: dict[Key, float] = {}

    async def work(self) -> None:
        """Process keys for ever; an error concerns its key alone and comes back with back-off."""
        while True:
            key = await self.queue.get()
            started = self._started[key] = time.monotonic()
            result = "success"
            try:
                await self.reconcile(key)
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

    async def reconcile(self, key: Key) -> None:
        """One pass over one object.

        Raises:
            KubeError: the API server refuses something, or this process may not lead any more.
        """
        if not self._holds():
            raise NotLeadingError
        if key.namespace in self._forbidden:
            return  # what is half known is not decided about
        reconciler = self._reconcilers[key.kind]
        state = await reconciler.observe(key)
        if state is None:
            reconciler.forget(key)
        else:
            await reconciler.apply(key, state, reconciler.decide(state))

    def busy_seconds(self) -> float:
        """How long the longest reconciliation has been running; 0 = none runs."""
        return max((time.monotonic() - started for started in self._started.values()), default=0.0)

    def serve_all_but(self, namespaces: frozenset[str]) -> None:
        """Leave alone what is in namespaces that may not be listed."""
        self._forbidden = namespaces
        self.telemetry.forbidden_namespaces.clear()
        for namespace in namespaces:
            self.telemetry.forbidden_namespaces.labels(namespace).set(1)

    def all_listed(self) -> None:
        """Everything was listed: what is kept of EvaluationJobs that exist no more is forgotten."""
        alive = self.router.retain()
        self.observer.jobs.retain(alive)
        self.runs.retain(alive)
