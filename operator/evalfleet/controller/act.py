"""Actions to the API server: create if absent, delete; and what its refusals mean for a job."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.objects import attempt_of, evaluation_job, labels_of, number_of, policy_name, role_of, run_of
from evalfleet.kube.client import CONFLICT, TOO_MANY_REQUESTS, Kube, KubeError
from evalfleet.kube.resources import WATCHED, Key, collection_path, key_of, object_path
from evalfleet.kube.runs import RunBook
from evalfleet.manifests.names import LABEL_POOL, LABEL_SLOT
from evalfleet.reconcile.decision import Action, Create, Delete
from evalfleet.reconcile.job.terminal import stamp
from evalfleet.reconcile.ownership import NameTaken, name_taken

log = logging.getLogger(__name__)

REFUSED = frozenset({400, 403, 422})
"""Answers that mean: this object as it is, not: the API server has a bad moment."""


class NameTakenError(KubeError):
    """A child cannot be created because another object has its name."""

    def __init__(self, taken: NameTaken) -> None:
        super().__init__(CONFLICT, taken.message)
        self.taken = taken


class NotLeadingError(KubeError):
    """Another operator may lead: nothing more is done in this pass."""

    def __init__(self) -> None:
        super().__init__(CONFLICT, "the Lease was not renewed in time: another operator may lead")


@dataclass(frozen=True, slots=True)
class Actor:
    """Applies actions, and keeps what the API server answers; `leads` says before each that nobody else can lead."""

    kube: Kube
    cache: Cache
    memory: Memory
    telemetry: Telemetry
    enqueue: Callable[[Key], None]
    leads: Callable[[], bool]
    runs: RunBook

    async def apply(self, actions: Iterable[Action]) -> None:
        """Apply actions in their order, up to the first that fails; each only while nobody else can lead."""
        for action in actions:
            if not self.leads():
                raise NotLeadingError
            if isinstance(action, Create):
                await self._create(dict(action.body))
            else:
                await self._delete(action)

    async def apply_each(self, actions: Iterable[Action]) -> dict[str, KubeError]:
        """Apply all actions of a policy; one that is refused harms only its own job. Returns refusals by run."""
        refused: dict[str, KubeError] = {}
        for action in actions:
            run = _run_of(action)
            if run in refused:
                continue  # the next worker of the same job would be refused as well
            try:
                await self.apply((action,))
            except KubeError as error:
                if error.status == TOO_MANY_REQUESTS or isinstance(error, NotLeadingError):
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
            taken = name_taken(body, created)
            if taken is not None:
                raise NameTakenError(taken) from error
        created.setdefault("kind", kind)
        if kind == "ConfigMap":
            self.runs.created(run_of(body), body, created)
        owner = evaluation_job(self.cache, key.namespace, run_of(body))
        if role_of(body) == "work":
            self._worker_created(key, body, owner if is_new else None)
        elif kind == "Job":
            begun = datetime.fromisoformat(str(created["metadata"]["creationTimestamp"]))
            self.memory.run(run_of(body)).attempts[role_of(body)] = (attempt_of(body), begun)
        # What is not watched is not kept; what was there already is no news: a refused job would never come to rest.
        if kind in WATCHED and self.cache.put(kind, created) and owner is not None:
            self.enqueue(key_of("EvaluationJob", owner))

    def _worker_created(self, key: Key, body: Mapping[str, Any], started_for: Mapping[str, Any] | None) -> None:
        labels = labels_of(body)
        slot, generation = int(labels[LABEL_SLOT]), int(number_of(body))
        known = self.memory.run(run_of(body)).generations
        known[slot] = max(generation, known.get(slot, 0))
        if started_for is not None:
            place = (key.namespace, policy_name(started_for), labels[LABEL_POOL])
            self.telemetry.worker_starts.labels(*place).inc()

    async def _delete(self, action: Delete) -> None:
        key = Key(action.kind, action.namespace, action.name)
        await self.kube.delete(object_path(key), uid=action.uid, propagation="Background")
        self.cache.mark_deleting(key, stamp(self.kube.clock.now()))
        if action.kind == "Job":
            self.telemetry.child_deletions.inc()


def is_refusal(error: KubeError) -> bool:
    """Whether the API server refuses the object as it is: a failed call alone says nothing about it."""
    return isinstance(error, NameTakenError) or error.status in REFUSED


def refusal_reason(error: KubeError) -> tuple[str, str]:
    """Reason and message of a refused child; a full quota is waited for, and so is the end of a predecessor."""
    if isinstance(error, NameTakenError) and error.taken.passes:
        return "WaitingForCleanup", error.taken.message
    if "exceeded quota" in str(error):
        return "WaitingForQuota", f"a ResourceQuota of the namespace is used up: {error}"
    return "ObjectRefused", f"the API server refuses an object of this job: {error}"


def _run_of(action: Action) -> str:
    """The run that an action creates something for; a deletion stands for itself."""
    return action.name if isinstance(action, Delete) else run_of(action.body)
