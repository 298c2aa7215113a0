"""From cached objects and memory to the states that reconciliation looks at: reading alone, nothing is decided."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from evalfleet import limits
from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory, RunMemory
from evalfleet.controller.nodes import without_machine
from evalfleet.controller.objects import (
    OPEN,
    attempt_of,
    evaluation_job,
    has_ended,
    is_number,
    is_worker,
    labels_of,
    number_of,
    owner_of,
    policy_key,
    policy_name,
    role_of,
    run_of,
    uid_of,
)
from evalfleet.controller.specs import Specs, parsed_job, parsed_policy
from evalfleet.kube.resources import CHILDREN, Key, key_of
from evalfleet.kube.runs import RunBook
from evalfleet.manifests.names import ANNOTATION_PRICE, LABEL_CAPACITY_TYPE, LABEL_POOL, LABEL_SLOT, Identity
from evalfleet.reconcile.children import MISSING, child_of
from evalfleet.reconcile.job.attempts import Attempt
from evalfleet.reconcile.job.recollection import recollected
from evalfleet.reconcile.job.state import JobState, Site, WorkerView
from evalfleet.reconcile.job.waits import bindings_of
from evalfleet.reconcile.policy.pool_history import SCORING_STATES
from evalfleet.reconcile.policy.pools import node_pools, on_demand_price
from evalfleet.reconcile.policy.settle import PaidPod, paid_pod, written_price

Object = Mapping[str, Any]
NOTHING_KNOWN = RunMemory()


@dataclass
class Observer:
    """Builds states from one cache and one memory, and writes to neither."""

    cache: Cache
    memory: Memory
    site: Site
    frozen: RunBook
    jobs: Specs[EvaluationJob] = field(default_factory=lambda: Specs(parsed_job))
    policies: Specs[ScalingPolicy] = field(default_factory=lambda: Specs(parsed_policy))
    _runs: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    """A memo of `runs`, by namespace."""

    def job_state(self, key: Key, now: datetime) -> JobState | None:
        """The state of one EvaluationJob, None when it is gone."""
        body = self.cache.get(key)
        return None if body is None else self._state(body, now)

    def active_jobs(self, policy: Key, unpaid: Iterable[str] = ()) -> list[Object]:
        """The EvaluationJobs of a policy that have not ended, or have left something; their bill may be open.

        The work follows what is active, not what exists. `unpaid` are runs whose last bill is open.
        """
        namespace = policy.namespace
        left = {*unpaid, *(owner_of(child) for child in self.cache.of_kind("Job", namespace))}
        left |= {run_of(pod) for pod in self.cache.of_kind("Pod", namespace)}
        found = (body for uid in left if (body := evaluation_job(self.cache, namespace, uid)) is not None)
        ended = [body for body in found if has_ended(body) and policy_key(body) == policy and not self.is_history(body)]
        return [*self.cache.indexed(OPEN, namespace, policy.name), *ended]

    def job_states(self, jobs: Iterable[Object], now: datetime) -> dict[str, JobState]:
        """The states of EvaluationJobs by uid."""
        return {uid_of(body): self._state(body, now) for body in jobs}

    def policy(self, namespace: str, name: str) -> tuple[ScalingPolicy | None, str]:
        """A policy, or None when it is absent or, with the reason, when it cannot be read."""
        body = self.cache.get(Key("ScalingPolicy", namespace, name))
        return (None, "") if body is None else self.policies.of(body)

    def runs(self, namespace: str) -> frozenset[str]:
        """Uids of the EvaluationJobs of a namespace whose cost the ledger keeps.

        All of them, up to what one ConfigMap has room for; beyond that the longest ended go, whose status tells it.
        """
        membership = self.cache.membership("EvaluationJob", namespace)
        known, runs = self._runs.get(namespace, (-1, frozenset[str]()))
        if known != membership or len(runs) >= limits.LEDGER_RUNS:
            runs = self._kept_runs(namespace)
            self._runs[namespace] = (membership, runs)
        return runs

    def _kept_runs(self, namespace: str) -> frozenset[str]:
        bodies, most = list(self.cache.of_kind("EvaluationJob", namespace)), limits.LEDGER_RUNS
        settled = [b for b in bodies if _shows_cost(b) and self.is_history(b)] if len(bodies) > most else []
        settled.sort(key=lambda body: str(body["status"].get("completionTime") or ""))
        left_out = {uid_of(body) for body in settled[: len(bodies) - most]}
        return frozenset(uid_of(body) for body in bodies) - left_out

    def is_history(self, body: Object) -> bool:
        """Whether an EvaluationJob has ended, has no children, and its last worker is paid."""
        namespace, uid = str(body["metadata"]["namespace"]), uid_of(body)
        money = self.memory.money.get(uid)
        paid = money is None or money.per_hour == 0
        if not paid or not has_ended(body):
            return False
        return not any(True for kind in CHILDREN for _ in self.cache.indexed(kind, namespace, uid))

    def paid_pods(
        self, namespace: str, jobs: Container[str], policy: ScalingPolicy | None, open_uids: Container[str]
    ) -> list[PaidPod]:
        """The worker pods that a policy pays for, each at the price it was started at.

        Those of its jobs, and those whose bill is open though their EvaluationJob was deleted: they run until they end.
        Whose a pod is says its owner; labels and prices are anybody's to write.
        """
        on_demand, progress = on_demand_price(node_pools(policy)), self.memory.progress
        found = []
        for pod in self.cache.of_kind("Pod", namespace):
            run, price = run_of(pod), written_price((pod["metadata"].get("annotations") or {}).get(ANNOTATION_PRICE))
            ours = (run in jobs and owner_of(pod) in self._known(run).worker_jobs) or uid_of(pod) in open_uids
            if role_of(pod) == "work" and ours and price is not None:
                prices = (price, price if on_demand is None else on_demand)
                told = progress.get(uid_of(pod))
                one = paid_pod(pod, run, labels_of(pod).get(LABEL_POOL, ""), prices)
                found.append(replace(one, scoring=told is not None and told.state in SCORING_STATES))
        return found

    def _known(self, uid: str) -> RunMemory:
        return self.memory.runs.get(uid, NOTHING_KNOWN)

    def _state(self, body: Object, now: datetime) -> JobState:
        key, uid = key_of("EvaluationJob", body), uid_of(body)
        known = self._known(uid)
        job, problem = self.jobs.of(body)
        is_named = bool((body.get("spec") or {}).get("policyName"))
        policy, policy_problem = self.policy(key.namespace, policy_name(body))
        run, run_problem = self.frozen.of(uid)
        children = list(self.cache.indexed("Job", key.namespace, uid))
        found = self.cache.indexed("Pod", key.namespace, uid)
        pods = [without_machine(pod, self.memory.lost_nodes) for pod in found]
        own_pods = [pod for pod in pods if owner_of(pod) in known.worker_jobs]
        plan, finish = (self._attempt(children, pods, role, uid, now) for role in ("plan", "finish"))
        created = datetime.fromisoformat(str(body["metadata"]["creationTimestamp"]))
        status = recollected(body.get("status") or {}, created, now)
        preempted, counted = _preempted(known, own_pods, status)
        return JobState(
            now=now,
            job=job,
            problem=problem,
            identity=Identity(key.namespace, key.name, uid),
            generation=int(body["metadata"].get("generation") or 0),
            version=str(body["metadata"].get("resourceVersion") or ""),
            created=created,
            deleting=bool(body["metadata"].get("deletionTimestamp")),
            status=status,
            policy=policy,
            policy_missing=is_named and policy is None and not policy_problem,
            plan=plan.child,
            plan_attempt=plan.number,
            finish=finish.child,
            finish_attempt=finish.number,
            begun={role: one.began for role, one in (("plan", plan), ("finish", finish)) if one.began is not None},
            superseded=_superseded(children),
            workers=tuple(self._worker(item, pods, now) for item in children if is_worker(item)),
            admission=known.admission,
            site=self.site,
            money=self.memory.money.get(uid),
            eta=known.eta,
            policy_problem=policy_problem,
            policy_uid=self._policy_uid(key.namespace, policy_name(body)),
            run=run,
            run_problem=run_problem,
            bindings=bindings_of(own_pods),
            preempted=preempted,
            counted_preemptions=counted,
            generations=dict(known.generations),
        )

    def _attempt(self, jobs: Iterable[Object], pods: Iterable[Object], role: str, run: str, now: datetime) -> Attempt:
        """The newest attempt of a step, though its Job may be gone."""
        number, began = self._known(run).attempts.get(role, (0, None))
        found = _attempts(jobs, role)
        if not found or attempt_of(found[-1]) < number:
            return Attempt(MISSING, number, began)
        job = found[-1]
        child = child_of(job, _pods_of(job, pods), now, self.memory.refusals.get(uid_of(job), ()))
        return Attempt(child, attempt_of(job), datetime.fromisoformat(str(job["metadata"]["creationTimestamp"])))

    def _policy_uid(self, namespace: str, name: str) -> str:
        body = self.cache.get(Key("ScalingPolicy", namespace, name))
        return "" if body is None else uid_of(body)

    def _worker(self, job: Object, pods: Iterable[Object], now: datetime) -> WorkerView:
        own = _pods_of(job, pods)
        alive = {**job, "metadata": {**job["metadata"], "deletionTimestamp": None}}
        child = child_of(alive, own, now, self.memory.refusals.get(uid_of(job), ()))
        pod = uid_of(child.pod) if child.pod is not None else ""
        labels = labels_of(job)
        return WorkerView(
            child=child,
            pool=labels.get(LABEL_POOL, ""),
            slot=int(labels[LABEL_SLOT]),
            generation=int(number_of(job)),
            capacity_type=labels.get(LABEL_CAPACITY_TYPE, ""),
            price_per_hour=(job["metadata"].get("annotations") or {}).get(ANNOTATION_PRICE, "0"),
            created=datetime.fromisoformat(str(job["metadata"]["creationTimestamp"])),
            progress=self.memory.progress.get(pod),
            deleting=bool(job["metadata"].get("deletionTimestamp")),
            uid=uid_of(job),
            failures=child.failures,
            heard=self.memory.heard.get(pod),
            stale=_is_stale(self.memory.answered.get(pod), now),
        )


def _is_stale(answered: datetime | None, now: datetime) -> bool:
    return answered is not None and (now - answered).total_seconds() > limits.RATE_SECONDS


def _preempted(known: RunMemory, pods: Iterable[Object], status: Object) -> tuple[frozenset[str], frozenset[str]]:
    """Worker pods taken away, also those that went since; and those that went and are counted in the status."""
    present = {uid_of(pod) for pod in pods}
    shown = set((status.get("workers") or {}).get("preempted") or ())
    ours = {pod for pod, job in known.preempted.items() if job in known.worker_jobs}
    counted = frozenset(pod for pod in ours if pod not in present and pod[: limits.UID_DIGITS] in shown)
    return frozenset(ours - counted), counted


def _shows_cost(body: Object) -> bool:
    return "spent" in ((body.get("status") or {}).get("cost") or {})


def _attempts(jobs: Iterable[Object], role: str) -> list[Object]:
    """The Jobs of a step, the newest last."""
    ours = (job for job in jobs if role_of(job) == role and (is_number(number_of(job)) or number_of(job) == role))
    return sorted(ours, key=attempt_of)


def _superseded(jobs: Iterable[Object]) -> dict[str, str]:
    """Uids by name of the plan and finish Jobs that are not the newest of their step, and are not being deleted."""
    jobs = list(jobs)
    older = (job for role in ("plan", "finish") for job in _attempts(jobs, role)[:-1])
    alive = (job for job in older if not job["metadata"].get("deletionTimestamp"))
    return {str(job["metadata"]["name"]): uid_of(job) for job in alive}


def _pods_of(job: Object, pods: Iterable[Object]) -> list[Object]:
    return [pod for pod in pods if owner_of(pod) == job["metadata"]["uid"]]
