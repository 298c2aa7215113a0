"""From cached objects to the worlds that reconciliation looks at. Pure reading, no decisions."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, parse_evaluation_job
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.controller.cache import Cache
from evalfleet.controller.nodes import LostNodes, without_machine
from evalfleet.controller.settings import Settings
from evalfleet.kube.resources import CHILDREN, Key, key_of
from evalfleet.manifests.names import (
    ANNOTATION_PRICE,
    LABEL_CAPACITY_TYPE,
    LABEL_POOL,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SLOT,
    Identity,
)
from evalfleet.reconcile.children import MISSING, child_of, is_disrupted
from evalfleet.reconcile.conditions import status_of
from evalfleet.reconcile.job.counts import UID_DIGITS
from evalfleet.reconcile.job.recollection import recollected
from evalfleet.reconcile.job.waits import bindings_of
from evalfleet.reconcile.job.world import Eta, FleetVerdict, Money, WorkerView, World
from evalfleet.reconcile.ownership import controller_of
from evalfleet.reconcile.policy.pools import node_pools, on_demand_price
from evalfleet.reconcile.policy.seen import PoolsSeen
from evalfleet.reconcile.policy.settle import PaidPod, paid_pod
from evalfleet_scaling.memory import FleetMemory
from evalfleet_worker.protocol import Progress

Object = Mapping[str, Any]
DEFAULT_POLICY = "default"
MOST_RUNS = 5_000
"""Runs in one spend ledger: about 80 bytes each of the 1 MiB that a ConfigMap holds."""
MOST_DIGITS = 9
PRICES_END = Decimal(10) ** 9
"""Beyond every price that the API takes."""


@dataclass
class Memory:
    """What the operator remembers between passes; all of it can be lost.

    Attributes:
        progress: newest progress by pod uid.
        verdicts: the Fleet's words by EvaluationJob uid.
        generations: highest generation created, by EvaluationJob uid and slot.
        preempted: pods seen taken away, by EvaluationJob uid.
        worker_jobs: worker Jobs seen, also those that are gone, by EvaluationJob uid.
        lost_nodes: nodes that have vanished.
        money: cost by EvaluationJob uid.
        etas: when it will be done, by EvaluationJob uid.
        fleets: what the last decision of a policy passed on, and what its pools showed.
    """

    progress: dict[str, Progress] = field(default_factory=dict)
    verdicts: dict[str, FleetVerdict] = field(default_factory=dict)
    generations: dict[str, dict[int, int]] = field(default_factory=dict)
    preempted: dict[str, set[str]] = field(default_factory=dict)
    worker_jobs: dict[str, set[str]] = field(default_factory=dict)
    lost_nodes: LostNodes = field(default_factory=LostNodes)
    money: dict[str, Money] = field(default_factory=dict)
    etas: dict[str, Eta] = field(default_factory=dict)
    fleets: dict[Key, tuple[FleetMemory, PoolsSeen]] = field(default_factory=dict)


@dataclass
class Observer:
    """Builds worlds from one cache and one memory."""

    cache: Cache
    memory: Memory
    settings: Settings
    specs: dict[str, tuple[int, EvaluationJob | None, str]] = field(default_factory=dict)
    policies: dict[Key, tuple[int, ScalingPolicy | None, str]] = field(default_factory=dict)
    """Parsed specs by uid or key, with their generation: parsing costs more than everything else of a pass."""

    def job_world(self, key: Key, now: datetime) -> World | None:
        """The world of one EvaluationJob, None when it is gone."""
        body = self.cache.get(key)
        if body is None:
            return None
        world = self._world(body, now)
        if self._is_history(body):
            self._forget(world.identity.uid)  # it is looked at a few times more; thousands of them are kept
        return world

    def policy_worlds(self, policy: Key, now: datetime) -> dict[str, World]:
        """The worlds of a policy's EvaluationJobs by uid, in one sweep; ended ones that left nothing stay away."""
        worlds = {}
        for body in self.cache.of_kind("EvaluationJob", policy.namespace):
            if self.policy_key(body) == policy and not self._is_history(body):
                worlds[_uid(body)] = self._world(body, now)
        return worlds

    def evaluation_job(self, namespace: str, uid: str) -> Object | None:
        """The EvaluationJob with a uid, None when it is gone."""
        return next(self.cache.indexed("EvaluationJob", namespace, uid), None)

    def runs(self, namespace: str) -> frozenset[str]:
        """Uids of the EvaluationJobs of a namespace whose cost the ledger keeps.

        All of them, up to what one ConfigMap has room for; beyond that the longest ended go, whose status tells it.
        """
        bodies = list(self.cache.of_kind("EvaluationJob", namespace))
        settled = [b for b in bodies if _told_cost(b) and self._is_history(b)] if len(bodies) > MOST_RUNS else []
        settled.sort(key=lambda body: str(body["status"].get("completionTime") or ""))
        left_out = {_uid(body) for body in settled[: len(bodies) - MOST_RUNS]}
        return frozenset(_uid(body) for body in bodies) - left_out

    def forget_others(self) -> None:
        """Forget what is remembered of EvaluationJobs that exist no more; called when everything was listed."""
        alive = {_uid(body) for body in self.cache.of_kind("EvaluationJob")}
        for uid in set[str]().union(*self._remembered(), self.memory.money) - alive:
            self._forget(uid)
            self.memory.money.pop(uid, None)

    def _forget(self, uid: str) -> None:
        for members in self._remembered():
            members.pop(uid, None)

    def _remembered(self) -> tuple[dict[str, Any], ...]:
        memory = self.memory
        known = (memory.verdicts, memory.generations, memory.preempted, memory.worker_jobs, memory.etas)
        return self.specs, *known

    def _is_history(self, body: Object) -> bool:
        """Whether an EvaluationJob has ended, has no children, and its last worker is paid."""
        namespace, uid = str(body["metadata"]["namespace"]), _uid(body)
        conditions = (body.get("status") or {}).get("conditions") or []
        money = self.memory.money.get(uid)
        paid = money is None or money.per_hour == 0
        if not paid or status_of(conditions, "Succeeded") not in ("True", "False"):
            return False
        return not any(True for kind in CHILDREN for _ in self.cache.indexed(kind, namespace, uid))

    def _world(self, body: Object, now: datetime) -> World:
        key = key_of("EvaluationJob", body)
        job, problem = self._spec(body)
        is_named = bool((body.get("spec") or {}).get("policyName"))
        policy, policy_problem = self.policy(key.namespace, policy_name(body))
        uid = _uid(body)
        jobs = list(self.cache.indexed("Job", key.namespace, uid))
        found = self.cache.indexed("Pod", key.namespace, uid)
        pods = [without_machine(pod, self.memory.lost_nodes) for pod in found]
        finish, attempt = _finish(jobs, pods)
        created = datetime.fromisoformat(str(body["metadata"]["creationTimestamp"]))
        status = recollected(body.get("status") or {}, created, now)
        workers = tuple(self._worker(item, pods) for item in jobs if _is_worker(item))
        own_jobs = self.memory.worker_jobs.setdefault(uid, set())
        own_jobs.update(worker.uid for worker in workers)
        own_pods = [pod for pod in pods if _owner(pod) in own_jobs]
        return World(
            now=now,
            job=job,
            problem=problem,
            identity=Identity(key.namespace, key.name, uid),
            generation=int(body["metadata"].get("generation") or 0),
            created=created,
            deleting=bool(body["metadata"].get("deletionTimestamp")),
            status=status,
            policy=policy,
            policy_missing=is_named and policy is None and not policy_problem,
            plan=_plan(jobs, pods),
            finish=finish,
            finish_attempt=attempt,
            workers=workers,
            fleet=self.memory.verdicts.get(uid),
            settings=self.settings,
            money=self.memory.money.get(uid),
            eta=self.memory.etas.get(uid),
            policy_problem=policy_problem,
            bindings=bindings_of(own_pods),
            extra={
                "preempted": self._preempted(uid, own_pods, status),
                "generations": dict(self.memory.generations.get(uid, {})),
            },
        )

    def _preempted(self, uid: str, pods: list[Object], status: Object) -> frozenset[str]:
        """Worker pods taken away, also those that went since; not those that went and are counted in the status."""
        ours = self.memory.preempted.setdefault(uid, set())
        present = {_uid(pod): pod for pod in pods}
        counted = set((status.get("workers") or {}).get("preempted") or ())
        ours.difference_update([pod for pod in ours if pod not in present and pod[:UID_DIGITS] in counted])
        ours.update(pod_uid for pod_uid, pod in present.items() if is_disrupted(pod))
        return frozenset(ours)

    def _spec(self, body: Object) -> tuple[EvaluationJob | None, str]:
        """The parsed object of this generation, or the problem with it."""
        uid, generation = _uid(body), int(body["metadata"].get("generation") or 0)
        known = self.specs.get(uid)
        if known is None or known[0] != generation:
            known = self.specs[uid] = (generation, *_parsed(body))
        return known[1], known[2]

    def policy(self, namespace: str, name: str) -> tuple[ScalingPolicy | None, str]:
        """A policy, or None when it is absent or, with the reason, when it cannot be read."""
        body = self.cache.get(Key("ScalingPolicy", namespace, name))
        if body is None:
            return None, ""
        key, generation = key_of("ScalingPolicy", body), int(body["metadata"].get("generation") or 0)
        known = self.policies.get(key)
        if known is None or known[0] != generation:
            known = self.policies[key] = (generation, *_parsed_policy(body))
        return known[1], known[2]

    def paid_pods(
        self, namespace: str, jobs: Mapping[str, World], policy: ScalingPolicy | None, open_uids: Container[str]
    ) -> list[PaidPod]:
        """The worker pods that a policy pays for, each at the price it was started at.

        Those of its jobs, and those whose bill is open though their EvaluationJob was deleted: they run until they end.
        Whose a pod is says its owner; labels and prices are anybody's to write.
        """
        on_demand = on_demand_price(node_pools(policy))
        found = []
        for pod in self.cache.of_kind("Pod", namespace):
            run, price = _run(pod), _price(pod)
            own_jobs = self.memory.worker_jobs.get(run, ()) if run in jobs else ()
            ours = _owner(pod) in own_jobs or _uid(pod) in open_uids
            if _role(pod) == "work" and ours and price is not None:
                found.append(paid_pod(pod, run, _labels(pod).get(LABEL_POOL, ""), (price, on_demand)))
        return found

    def policy_key(self, body: Object) -> Key:
        """The policy that an EvaluationJob uses; the namespace's implicit one has the same key."""
        return Key("ScalingPolicy", str(body["metadata"]["namespace"]), policy_name(body))

    def _worker(self, job: Object, pods: Iterable[Object]) -> WorkerView:
        child = child_of({**job, "metadata": {**job["metadata"], "deletionTimestamp": None}}, _pods_of(job, pods))
        uid = _uid(child.pod) if child.pod is not None else ""
        labels = _labels(job)
        return WorkerView(
            child=child,
            pool=labels.get(LABEL_POOL, ""),
            slot=int(labels[LABEL_SLOT]),
            generation=int(_number(job)),
            capacity_type=labels.get(LABEL_CAPACITY_TYPE, ""),
            price_per_hour=(job["metadata"].get("annotations") or {}).get(ANNOTATION_PRICE, "0"),
            created=datetime.fromisoformat(str(job["metadata"]["creationTimestamp"])),
            progress=self.memory.progress.get(uid),
            deleting=bool(job["metadata"].get("deletionTimestamp")),
            uid=_uid(job),
            failures=int((job.get("status") or {}).get("failed") or 0),
        )


def _is_worker(job: Object) -> bool:
    """Whether a Job under our ownership is a worker of ours: whoever may create Jobs may name us as their owner."""
    return _role(job) == "work" and _is_number(_labels(job).get(LABEL_SLOT, "")) and _is_number(_number(job))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


def _uid(body: Object) -> str:
    return str(body["metadata"]["uid"])


def _told_cost(body: Object) -> bool:
    return "spent" in ((body.get("status") or {}).get("cost") or {})


def policy_name(body: Object) -> str:
    """Name of the policy that an EvaluationJob uses."""
    return str((body.get("spec") or {}).get("policyName") or DEFAULT_POLICY)


def _price(pod: Object) -> Decimal | None:
    """Price of a worker pod; None for one that we did not make, whatever its labels say."""
    try:
        price = Decimal((pod["metadata"].get("annotations") or {})[ANNOTATION_PRICE])
    except (KeyError, InvalidOperation):
        return None
    return price if price.is_finite() and 0 <= price < PRICES_END else None


def _parsed(body: Object) -> tuple[EvaluationJob | None, str]:
    document = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
    metadata = {key: body["metadata"][key] for key in ("name", "namespace")}
    try:
        return parse_evaluation_job({**document, "metadata": metadata}, source="object"), ""
    except ManifestError as error:
        return None, "; ".join(str(problem) for problem in error.problems[:8])


def _parsed_policy(body: Object) -> tuple[ScalingPolicy | None, str]:
    document = {key: body[key] for key in ("apiVersion", "kind", "spec") if key in body}
    metadata = {key: body["metadata"][key] for key in ("name", "namespace")}
    try:
        return ScalingPolicy.model_validate({**document, "metadata": metadata}), ""
    except ValueError as error:
        return None, " ".join(str(error).split())[:500]


def _plan(jobs: Iterable[Object], pods: Iterable[Object]) -> Any:
    job = next((item for item in jobs if _role(item) == "plan"), None)
    return child_of(job, _pods_of(job, pods)) if job is not None else MISSING


def _finish(jobs: Iterable[Object], pods: Iterable[Object]) -> tuple[Any, int]:
    ours = (item for item in jobs if _role(item) == "finish" and _is_number(_number(item)))
    finishes = sorted(ours, key=_attempt)
    if not finishes:
        return MISSING, 0
    newest = finishes[-1]
    return child_of(newest, _pods_of(newest, pods)), _attempt(newest)


def _attempt(job: Object) -> int:
    return int(_number(job))


def _number(job: Object) -> str:
    """What its name ends with: attempt or generation."""
    return str(job["metadata"]["name"]).rsplit("-", 1)[-1]


def _pods_of(job: Object, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if _owner(pod) == job["metadata"]["uid"]]


def _owner(body: Object) -> str:
    """Uid of the controlling owner."""
    return str(controller_of(body).get("uid") or "")


def _labels(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


def _run(body: Object) -> str:
    return _labels(body).get(LABEL_RUN, "")


INDICES: Mapping[str, Callable[[Object], str]] = {
    "EvaluationJob": _uid,
    "Job": _owner,
    "Pod": _run,
}
"""By which everything is found by the uid of its EvaluationJob."""


def _role(body: Object) -> str:
    return _labels(body).get(LABEL_ROLE, "")
