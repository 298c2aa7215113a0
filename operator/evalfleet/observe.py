"""From cached objects to the worlds that reconciliation looks at. Pure reading, no decisions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.manifest import ManifestError, parse_evaluation_job
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.cache import Cache, Key
from evalfleet.manifests import (
    ANNOTATION_PRICE,
    LABEL_CAPACITY_TYPE,
    LABEL_POOL,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SLOT,
    Identity,
)
from evalfleet.reconcile.children import MISSING, child_of, is_disrupted
from evalfleet.reconcile.evaluationjob.world import FleetVerdict, Money, WorkerView, World
from evalfleet.settings import Settings
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
        money: cost by EvaluationJob uid.
    """

    progress: dict[str, Progress] = field(default_factory=dict)
    verdicts: dict[str, FleetVerdict] = field(default_factory=dict)
    generations: dict[tuple[str, int], int] = field(default_factory=dict)
    preempted: dict[str, set[str]] = field(default_factory=dict)
    money: dict[str, Money] = field(default_factory=dict)


@dataclass
class Observer:
    """Builds worlds from one cache and one memory."""

    cache: Cache
    memory: Memory
    settings: Settings

    def job_world(self, key: Key, now: datetime) -> World | None:
        """The world of one EvaluationJob, None when it is gone."""
        body = self.cache.get(key)
        if body is None:
            return None
        job, problem = _parsed(body)
        policy_name = (body.get("spec") or {}).get("policyName")
        policy = self.policy(key.namespace, policy_name or DEFAULT_POLICY)
        uid = str(body["metadata"]["uid"])
        jobs = [item for item in self.cache.of_kind("Job", key.namespace) if _labels(item).get(LABEL_RUN) == uid]
        pods = [item for item in self.cache.of_kind("Pod", key.namespace) if _labels(item).get(LABEL_RUN) == uid]
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
            policy_missing=bool(policy_name) and policy is None,
            plan=_plan(jobs, pods),
            finish=finish,
            finish_attempt=attempt,
            workers=workers,
            fleet=self.memory.verdicts.get(uid),
            settings=self.settings,
            money=self.memory.money.get(uid),
            extra={
                "preemptions": len(preempted),
                "generations": {s: g for (owner, s), g in self.memory.generations.items() if owner == uid},
            },
        )

    def policy(self, namespace: str, name: str) -> ScalingPolicy | None:
        """A policy, None when it is absent or invalid."""
        body = self.cache.get(Key("ScalingPolicy", namespace, name))
        if body is None:
            return None
        try:
            return ScalingPolicy.model_validate({**body, "status": None})
        except ValueError:
            return None

    def policy_key(self, body: Object) -> Key:
        """The policy that an EvaluationJob uses; the namespace's implicit one has the same key."""
        name = (body.get("spec") or {}).get("policyName") or DEFAULT_POLICY
        return Key("ScalingPolicy", str(body["metadata"]["namespace"]), str(name))

    def _worker(self, job: Object, pods: Iterable[Object]) -> WorkerView:
        name = str(job["metadata"]["name"])
        own = [pod for pod in pods if _labels(pod).get("batch.kubernetes.io/job-name") == name]
        child = child_of({**job, "metadata": {**job["metadata"], "deletionTimestamp": None}}, own)
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


def _parsed(body: Object) -> tuple[EvaluationJob | None, str]:
    document = {key: body[key] for key in ("apiVersion", "kind", "metadata", "spec") if key in body}
    metadata = {key: body["metadata"][key] for key in ("name", "namespace")}
    try:
        return parse_evaluation_job({**document, "metadata": metadata}, source="object"), ""
    except ManifestError as error:
        return None, "; ".join(str(problem) for problem in error.problems[:8])


def _plan(jobs: Iterable[Object], pods: Iterable[Object]) -> Any:
    job = next((item for item in jobs if _role(item) == "plan"), None)
    return child_of(job, [pod for pod in pods if _role(pod) == "plan"])


def _finish(jobs: Iterable[Object], pods: Iterable[Object]) -> tuple[Any, int]:
    finishes = sorted((item for item in jobs if _role(item) == "finish"), key=_attempt)
    if not finishes:
        return MISSING, 0
    newest = finishes[-1]
    name = str(newest["metadata"]["name"])
    own = [pod for pod in pods if _labels(pod).get("batch.kubernetes.io/job-name") == name]
    return child_of(newest, own), _attempt(newest)


def _attempt(job: Object) -> int:
    return int(str(job["metadata"]["name"]).rsplit("-", 1)[-1])


def _labels(body: Object) -> Mapping[str, str]:
    return body["metadata"].get("labels") or {}


def _role(body: Object) -> str:
    return _labels(body).get(LABEL_ROLE, "")
