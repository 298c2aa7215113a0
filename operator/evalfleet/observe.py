"""From cached objects to the worlds that reconciliation looks at. Pure reading, no decisions."""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, parse_evaluation_job
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.cache import Cache, Key, key_of
from evalfleet.conditions import status_of
from evalfleet.manifests import (
    ANNOTATION_PRICE,
    LABEL_CAPACITY_TYPE,
    LABEL_POOL,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SLOT,
    Identity,
)
from evalfleet.nodes import LostNodes, without_machine
from evalfleet.ownership import controller_of
from evalfleet.reconcile.children import MISSING, child_of, is_disrupted
from evalfleet.reconcile.evaluationjob.world import Eta, FleetVerdict, Money, WorkerView, World
from evalfleet.reconcile.fleet.pools import node_pools, on_demand_price
from evalfleet.reconcile.fleet.seen import PoolsSeen
from evalfleet.reconcile.fleet.spend import PaidPod, paid_pod
from evalfleet.settings import Settings
from evalfleet_scaling.memory import FleetMemory
from evalfleet_worker.protocol import Progress

Object = Mapping[str, Any]
DEFAULT_POLICY = "default"


@dataclass
class Memory:
    """What the operator remembers between passes; all of it can be lost.

    Attributes:
        progress: newest progress by pod uid.
        verdicts: the Fleet's words by EvaluationJob uid.
        generations: highest generation created, by (EvaluationJob uid, slot).
        preempted: pods seen taken away, by EvaluationJob uid.
        lost_nodes: nodes that have vanished.
        money: cost by EvaluationJob uid.
        etas: when it will be done, by EvaluationJob uid.
        fleets: what the last decision of a policy passed on, and what its pools showed.
    """

    progress: dict[str, Progress] = field(default_factory=dict)
    verdicts: dict[str, FleetVerdict] = field(default_factory=dict)
    generations: dict[tuple[str, int], int] = field(default_factory=dict)
    preempted: dict[str, set[str]] = field(default_factory=dict)
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
        uid = str(body["metadata"]["uid"])
        jobs = [item for item in self.cache.of_kind("Job", key.namespace) if _owner(item) == uid]
        pods = [item for item in self.cache.of_kind("Pod", key.namespace) if _labels(item).get(LABEL_RUN) == uid]
        return self._world(body, jobs, pods, now)

    def policy_worlds(self, policy: Key, now: datetime) -> dict[str, World]:
        """The worlds of a policy's EvaluationJobs by uid, in one sweep; ended ones that left nothing stay away."""
        jobs, pods = defaultdict(list), defaultdict(list)
        for item in self.cache.of_kind("Job", policy.namespace):
            jobs[_owner(item)].append(item)
        for item in self.cache.of_kind("Pod", policy.namespace):
            pods[_labels(item).get(LABEL_RUN, "")].append(item)
        worlds = {}
        for body in self.cache.of_kind("EvaluationJob", policy.namespace):
            uid = str(body["metadata"]["uid"])
            if self.policy_key(body) == policy and not self._is_history(body, bool(jobs[uid] or pods[uid])):
                worlds[uid] = self._world(body, jobs[uid], pods[uid], now)
        return worlds

    def runs(self, namespace: str) -> frozenset[str]:
        """Uids of all EvaluationJobs of a namespace."""
        return frozenset(str(body["metadata"]["uid"]) for body in self.cache.of_kind("EvaluationJob", namespace))

    def forget_others(self) -> None:
        """Forget what is remembered of EvaluationJobs that exist no more; called when everything was listed."""
        alive = {str(body["metadata"]["uid"]) for body in self.cache.of_kind("EvaluationJob")}
        memory = self.memory
        remembered: tuple[dict[str, Any], ...] = (
            self.specs,
            memory.verdicts,
            memory.preempted,
            memory.money,
            memory.etas,
        )
        for members in remembered:
            for uid in members.keys() - alive:
                del members[uid]
        memory.generations = {key: value for key, value in memory.generations.items() if key[0] in alive}

    def _is_history(self, body: Object, has_children: bool) -> bool:
        """Whether an EvaluationJob has ended, has no children, and its last worker is paid."""
        conditions = (body.get("status") or {}).get("conditions") or []
        money = self.memory.money.get(str(body["metadata"]["uid"]))
        paid = money is None or money.per_hour == 0
        return not has_children and paid and status_of(conditions, "Succeeded") in ("True", "False")

    def _world(self, body: Object, jobs: list[Object], pods: list[Object], now: datetime) -> World:
        key = key_of("EvaluationJob", body)
        job, problem = self._spec(body)
        policy_name = (body.get("spec") or {}).get("policyName")
        policy, policy_problem = self.policy(key.namespace, policy_name or DEFAULT_POLICY)
        uid = str(body["metadata"]["uid"])
        pods = [without_machine(pod, self.memory.lost_nodes) for pod in pods]
        finish, attempt = _finish(jobs, pods)
        preempted = self.memory.preempted.setdefault(uid, set())
        preempted.update(str(pod["metadata"]["uid"]) for pod in pods if _role(pod) == "work" and is_disrupted(pod))
        workers = tuple(self._worker(item, pods) for item in jobs if _role(item) == "work")
        return World(
            now=now,
            job=job,
            problem=problem,
            identity=Identity(key.namespace, key.name, uid),
            generation=int(body["metadata"].get("generation") or 0),
            created=datetime.fromisoformat(str(body["metadata"]["creationTimestamp"])),
            deleting=bool(body["metadata"].get("deletionTimestamp")),
            status=body.get("status") or {},
            policy=policy,
            policy_missing=bool(policy_name) and policy is None and not policy_problem,
            plan=_plan(jobs, pods),
            finish=finish,
            finish_attempt=attempt,
            workers=workers,
            fleet=self.memory.verdicts.get(uid),
            settings=self.settings,
            money=self.memory.money.get(uid),
            eta=self.memory.etas.get(uid),
            policy_problem=policy_problem,
            extra={
                "preemptions": len(preempted),
                "generations": {s: g for (owner, s), g in self.memory.generations.items() if owner == uid},
            },
        )

    def _spec(self, body: Object) -> tuple[EvaluationJob | None, str]:
        """The parsed object of this generation, or the problem with it."""
        uid, generation = str(body["metadata"]["uid"]), int(body["metadata"].get("generation") or 0)
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
        """
        on_demand = on_demand_price(node_pools(policy))
        found = []
        for pod in self.cache.of_kind("Pod", namespace):
            run, price = _labels(pod).get(LABEL_RUN, ""), _price(pod)
            ours = run in jobs or str(pod["metadata"]["uid"]) in open_uids
            if _role(pod) == "work" and ours and price is not None:
                found.append(paid_pod(pod, run, _labels(pod).get(LABEL_POOL, ""), (price, on_demand)))
        return found

    def policy_key(self, body: Object) -> Key:
        """The policy that an EvaluationJob uses; the namespace's implicit one has the same key."""
        name = (body.get("spec") or {}).get("policyName") or DEFAULT_POLICY
        return Key("ScalingPolicy", str(body["metadata"]["namespace"]), str(name))

    def _worker(self, job: Object, pods: Iterable[Object]) -> WorkerView:
        name = str(job["metadata"]["name"])
        child = child_of({**job, "metadata": {**job["metadata"], "deletionTimestamp": None}}, _pods_of(job, pods))
        uid = str(child.pod["metadata"]["uid"]) if child.pod is not None else ""
        labels = _labels(job)
        return WorkerView(
            child=child,
            pool=labels.get(LABEL_POOL, ""),
            slot=int(labels.get(LABEL_SLOT, "0")),
            generation=int(name.rsplit("-", 1)[-1]),
            capacity_type=labels.get(LABEL_CAPACITY_TYPE, ""),
            price_per_hour=(job["metadata"].get("annotations") or {}).get(ANNOTATION_PRICE, "0"),
            created=datetime.fromisoformat(str(job["metadata"]["creationTimestamp"])),
            progress=self.memory.progress.get(uid),
            deleting=bool(job["metadata"].get("deletionTimestamp")),
            uid=str(job["metadata"]["uid"]),
            failures=int((job.get("status") or {}).get("failed") or 0),
        )


def _price(pod: Object) -> Decimal | None:
    """Price of a worker pod; None for one that we did not make, whatever its labels say."""
    try:
        price = Decimal((pod["metadata"].get("annotations") or {})[ANNOTATION_PRICE])
    except (KeyError, InvalidOperation):
        return None
    return price if price.is_finite() and price >= 0 else None


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
    finishes = sorted((item for item in jobs if _role(item) == "finish"), key=_attempt)
    if not finishes:
        return MISSING, 0
    newest = finishes[-1]
    return child_of(newest, _pods_of(newest, pods)), _attempt(newest)


def _attempt(job: Object) -> int:
    return int(str(job["metadata"]["name"]).rsplit("-", 1)[-1])


def _pods_of(job: Object, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if _owner(pod) == job["metadata"]["uid"]]


def _owner(body: Object) -> str:
    """Uid of the controlling owner."""
    return str(controller_of(body).get("uid") or "")


def _labels(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


def _role(body: Object) -> str:
    return _labels(body).get(LABEL_ROLE, "")
