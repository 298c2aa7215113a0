"""Who looks again: from what happened to an object to the keys that it matters to."""

from collections.abc import Callable, Container, Mapping
from datetime import datetime
from typing import Any

from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory
from evalfleet.controller.objects import evaluation_job, policy_key, run_of, uid_of
from evalfleet.kube.resources import Key, key_of
from evalfleet_worker.protocol import Progress

Object = Mapping[str, Any]
OURS = frozenset({"EvaluationJob", "ScalingPolicy"})
"""Kinds whose status nobody but this operator writes."""


class Router:
    """Keeps what arrives in cache and memory, and enqueues who has to look at it."""

    def __init__(self, cache: Cache, memory: Memory, enqueue: Callable[[Key], None]) -> None:
        self._cache = cache
        self._memory = memory
        self._enqueue = enqueue

    def deliver(self, kind: str, event_type: str | None, body: Object) -> None:
        """One watch event: keep it and enqueue who it concerns."""
        key = key_of(kind, body)
        before = self._cache.get(key)
        if event_type == "DELETED":
            if self._cache.remove(kind, body):
                self.enqueue_for(kind, body)
        elif self._cache.put(kind, body):
            if kind not in OURS or before is None or _asked(before) != _asked(body):
                self.enqueue_for(kind, body)
            elif kind == "EvaluationJob":
                self._enqueue(key)  # a status is our own word: who else it concerns was enqueued when it was written

    def listed(self, kind: str, body: Object) -> None:
        """One object of a listing: what a watch lost is found."""
        if self._cache.put(kind, body):
            self.enqueue_for(kind, body)

    def listing_ended(self, kind: str, listed: Container[Key], namespace: str | None, version: int) -> None:
        """A listing is complete: what it does not name went unseen, and everybody in its namespace looks again."""
        gone = self._cache.retain(kind, listed, namespace, version)
        for place in {key.namespace for key in gone}:
            for job in self._cache.of_kind("EvaluationJob", place):
                self.enqueue_for("EvaluationJob", job)

    def nodes_lost(self, lost: set[str]) -> None:
        """Nodes have vanished: whoever had a pod there looks again."""
        for pod in self._cache.of_kind("Pod"):
            if (pod.get("spec") or {}).get("nodeName") in lost:
                self._memory.note("Pod", pod)
                self.enqueue_for("Pod", pod)

    def progress_arrived(self, running: Mapping[str, Object], answers: Mapping[str, Progress], now: datetime) -> None:
        """Workers have answered: keep the newest of each pod that runs, enqueue where it is news."""
        known = self._memory.progress
        for uid, progress in answers.items():
            if known.get(uid) != progress:
                self.enqueue_for("Pod", running[uid])
        moved = {uid: now for uid, progress in answers.items() if _work_of(known.get(uid)) != _work_of(progress)}
        heard = {uid: before for uid, before in self._memory.heard.items() if uid in running}
        self._memory.heard = heard | moved
        answered = {uid: before for uid, before in self._memory.answered.items() if uid in running}
        self._memory.answered = answered | dict.fromkeys(answers, now)
        self._memory.progress = {uid: before for uid, before in known.items() if uid in running} | dict(answers)

    def refusals_arrived(self, job: Object, messages: tuple[str, ...]) -> None:
        """The Job controller has said why it creates no pod, or has nothing more to say."""
        if self._memory.refusals.get(uid_of(job), ()) != messages:
            self._memory.refusals[uid_of(job)] = messages
            self.enqueue_for("Job", job)

    def enqueue_for(self, kind: str, body: Object) -> None:
        """Enqueue the EvaluationJob and the policy that an object belongs to."""
        namespace = str(body["metadata"].get("namespace") or "")
        if kind == "EvaluationJob":
            self._enqueue(key_of(kind, body))
            self._enqueue(policy_key(body))
        elif kind == "ScalingPolicy":
            self._enqueue(key_of(kind, body))
            for job in self._cache.of_kind("EvaluationJob", namespace):
                if policy_key(job) == key_of(kind, body):
                    self._enqueue(key_of("EvaluationJob", job))
        else:
            self._enqueue_owner(namespace, run_of(body))

    def enqueue_run(self, namespace: str, uid: str) -> None:
        """Enqueue the EvaluationJob with a uid, not its policy."""
        body = evaluation_job(self._cache, namespace, uid)
        if body is not None:
            self._enqueue(key_of("EvaluationJob", body))

    def _enqueue_owner(self, namespace: str, uid: str) -> None:
        owner = evaluation_job(self._cache, namespace, uid)
        if owner is not None:
            self.enqueue_for("EvaluationJob", owner)

    def retain(self) -> frozenset[str]:
        """Forget runs whose EvaluationJob exists no more, now that all are listed; returns the uids that do."""
        alive = frozenset(uid_of(body) for body in self._cache.of_kind("EvaluationJob"))
        self._memory.retain(alive)
        return alive


def _work_of(progress: Progress | None) -> tuple[Any, ...] | None:
    """What moves while a worker works."""
    if progress is None:
        return None
    return progress.state, progress.units_own, progress.requests_own, progress.units_done, progress.requests_done


def _asked(body: Object) -> tuple[Any, ...]:
    """What people ask of an object, as far as the API server counts it."""
    return tuple(body["metadata"].get(name) for name in ("uid", "generation", "deletionTimestamp"))
