"""The objects the operator creates for an EvaluationJob: one ConfigMap with the run's spec, Jobs of one pod. Pure.

Pods are restricted: non-root, no capabilities, read-only root, no service-account token; nothing of them comes from a
user's pod template, only from the allow-listed fields of the API.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalfleet.api.evaluationjob import Worker
from evalfleet.api.scalingpolicy import NodePool
from evalfleet.api.wire import API_VERSION
from evalfleet_worker.protocol import ExitCode, RunSpec, dumps

LABEL_RUN = "evalfleet.io/run"
LABEL_ROLE = "evalfleet.io/role"
LABEL_POOL = "evalfleet.io/pool"
LABEL_SLOT = "evalfleet.io/slot"
LABEL_CAPACITY_TYPE = "evalfleet.io/capacity-type"
ANNOTATION_PRICE = "evalfleet.io/price-per-hour"
MANAGED = {"app.kubernetes.io/managed-by": "evalfleet"}
PROGRESS_PORT = 9464
NAME_LIMIT = 63
SPEC_FOLDER = "/etc/evalfleet"
CACHE_FOLDER = "/var/lib/evalfleet/cache"
WORK_FOLDER = "/var/lib/evalfleet/work"
CLAIMS_FOLDER = "/var/lib/evalfleet/claims"
TERMINATION_PATH = "/dev/termination-log"
GRACE_SECONDS = 30
UNREACHABLE_SECONDS = 30
CANNOT_START = (126, 127, 128)
"""Exit codes of a program that cannot be executed, is not found, or that the container runtime could not start."""
MAX_THREADS = 256
CPU_SCALES = {"m": 1e-3, "k": 1e3}
"""Suffixes that make sense for CPU; the API server takes others as well, and no node has so many cores."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which EvaluationJob children belong to."""

    namespace: str
    name: str
    uid: str

    @property
    def owner_references(self) -> list[Object]:
        """Children go when the EvaluationJob goes, with the operator or without."""
        return [
            {
                "apiVersion": API_VERSION,
                "kind": "EvaluationJob",
                "name": self.name,
                "uid": self.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]

    def child(self, suffix: str) -> str:
        """Deterministic name of a child, at most 63 characters."""
        name = f"{self.name}-{suffix}"
        if len(name) <= NAME_LIMIT and "." not in name:
            return name
        digest = hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()
        head = self.name.replace(".", "-")[: NAME_LIMIT - len(suffix) - 10].rstrip("-")
        return f"{head}-{digest}-{suffix}"


@dataclass(frozen=True, slots=True)
class PodShape:
    """What all pods of one EvaluationJob share, already checked.

    Attributes:
        image: worker image.
        worker: allow-listed pod fields of the job, or of its policy.
        secrets: names of Secrets given as environment.
        claims: names of PersistentVolumeClaims; the n-th is mounted at CLAIMS_FOLDER/n.
        cache: folder for models; the default is a volume of the pod.
    """

    image: str
    worker: Worker | None = None
    secrets: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    cache: str = CACHE_FOLDER


@dataclass(frozen=True, slots=True)
class Command:
    """One of the worker commands as a pod.

    Attributes:
        role: plan, work or finish.
        name: name of the Job.
        environment: extra variables.
        labels: extra labels of Job and pod.
        annotations: extra annotations of Job and pod.
    """

    role: str
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def spec_config_map(owner: Identity, spec: RunSpec) -> Object:
    """The ConfigMap that gives the run's spec to all its pods."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(owner, owner.child("run"), {}),
        "immutable": True,
        "data": {"spec.json": dumps(spec)},
    }


def plan_job(owner: Identity, shape: PodShape) -> Object:
    """The one-pod Job that plans the run on CPU."""
    return _job(owner, shape, Command("plan", owner.child("plan")), backoff_limit=2, pool=None)


def finish_job(owner: Identity, shape: PodShape, attempt: int) -> Object:
    """The one-pod Job that merges the run's parts and computes its metrics on CPU."""
    return _job(owner, shape, Command("finish", owner.child(f"finish-{attempt}")), backoff_limit=2, pool=None)


def worker_job(owner: Identity, shape: PodShape, pool: NodePool, slot: int, generation: int) -> Object:
    """The one-pod Job of one worker: `<name>-w<slot>-<generation>`, pool and price in its metadata."""
    name = owner.child(f"w{slot}-{generation}")
    command = Command(
        "work",
        name,
        environment={"EVALFLEET_PROGRESS_ADDRESS": f"$(POD_IP):{PROGRESS_PORT}", "EVALFLEET_WORKER": "$(POD_NAME)"},
        labels={LABEL_POOL: pool.name, LABEL_SLOT: str(slot), LABEL_CAPACITY_TYPE: pool.capacity_type},
        annotations={ANNOTATION_PRICE: pool.price_per_hour},
    )
    return _job(owner, shape, command, backoff_limit=3, pool=pool)


def _job(owner: Identity, shape: PodShape, command: Command, backoff_limit: int, pool: NodePool | None) -> Object:
    labels = {LABEL_ROLE: command.role, **command.labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(owner, command.name, labels) | {"annotations": dict(command.annotations)},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": backoff_limit,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {
                    "labels": {**MANAGED, LABEL_RUN: owner.uid, **labels},
                    "annotations": {"sidecar.istio.io/inject": "false", **command.annotations},
                },
                "spec": _pod_spec(owner, shape, command, pool),
            },
        },
    }


def _failure_rules() -> list[Object]:
    """Reclaims and early leaves never count; the fatal code and a program that cannot start end the Job at once."""
    ignored = [int(ExitCode.DISRUPTED), int(ExitCode.TERMINATED)]
    hopeless = [int(ExitCode.FATAL), *CANNOT_START]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": hopeless}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": ignored}},
    ]


def _pod_spec(owner: Identity, shape: PodShape, command: Command, pool: NodePool | None) -> Object:
    worker = shape.worker
    spec: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(shape, command, pool)],
        "volumes": _volumes(owner, shape),
        "nodeSelector": {**_selector(worker), **(dict(pool.node_selector) if pool else {})},
        "tolerations": _tolerations(worker, pool),
    }
    if worker is not None:
        if worker.image_pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in worker.image_pull_secrets]
        if worker.runtime_class_name:
            spec["runtimeClassName"] = worker.runtime_class_name
        if worker.service_account_name:
            spec["serviceAccountName"] = worker.service_account_name
    return spec


def _container(shape: PodShape, command: Command, pool: NodePool | None) -> Object:
    environment = {
        "EVALFLEET_CACHE": shape.cache,
        "EVALFLEET_TERMINATION_LOG": TERMINATION_PATH,
        "EVALFLEET_LOG_FORMAT": "json",
        "EVALFLEET_THREADS": str(_threads(shape.worker)),
        "EVALFLEET_GRACE_SECONDS": str(GRACE_SECONDS - 5),
        "HOME": WORK_FOLDER,
        "TMPDIR": WORK_FOLDER,
        **_claim_variables(shape.claims),
        **command.environment,
    }
    user = {} if shape.worker is None else {entry.name: entry.value for entry in shape.worker.env or []}
    fields = [_field("POD_IP", "status.podIP"), _field("POD_NAME", "metadata.name")]
    return {
        "name": "worker",
        "image": shape.image,
        "command": ["python", "-m", "evalfleet_worker", command.role],
        "args": ["--spec", f"{SPEC_FOLDER}/spec.json"],
        "env": fields + [{"name": name, "value": value} for name, value in {**user, **environment}.items()],
        "envFrom": [{"secretRef": {"name": name}} for name in shape.secrets],
        "resources": _resources(shape.worker, pool),
        "terminationMessagePath": TERMINATION_PATH,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "spec", "mountPath": SPEC_FOLDER, "readOnly": True},
            {"name": "cache", "mountPath": CACHE_FOLDER},
            {"name": "work", "mountPath": WORK_FOLDER},
            *({"name": f"claim-{n}", "mountPath": f"{CLAIMS_FOLDER}/{n}"} for n in range(len(shape.claims))),
        ],
    }


def _claim_variables(claims: tuple[str, ...]) -> dict[str, str]:
    """Where the claims of pvc:// addresses are mounted; see `evalfleet_worker.claims`."""
    named = {f"EVALFLEET_CLAIM_{n}": name for n, name in enumerate(claims)}
    return named | {f"EVALFLEET_CLAIM_{n}_PATH": f"{CLAIMS_FOLDER}/{n}" for n in range(len(claims))}


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _volumes(owner: Identity, shape: PodShape) -> list[Object]:
    return [
        {"name": "spec", "configMap": {"name": owner.child("run")}},
        {"name": "cache", "emptyDir": {}},
        {"name": "work", "emptyDir": {}},
        *({"name": f"claim-{n}", "persistentVolumeClaim": {"claimName": name}} for n, name in enumerate(shape.claims)),
    ]


def _resources(worker: Worker | None, pool: NodePool | None) -> Object:
    asked = worker.resources if worker else None
    requests = {"cpu": (asked.cpu if asked else None) or "1", "memory": (asked.memory if asked else None) or "2Gi"}
    limits: Object = {}
    if asked and asked.memory:
        limits["memory"] = asked.memory
    if asked and asked.ephemeral_storage:
        requests["ephemeral-storage"] = asked.ephemeral_storage
    if pool is not None and pool.capacity_type != "Local":
        accelerator = pool.accelerator
        resource = (accelerator.resource_name if accelerator else None) or "nvidia.com/gpu"
        limits[resource] = str(accelerator.count_per_worker if accelerator else 1)
    return {"requests": requests, "limits": limits}


def _threads(worker: Worker | None) -> int:
    """Compute threads: whole cores of the request, so that neighbours on a node are left alone."""
    cpu = (worker.resources.cpu if worker and worker.resources else None) or "1"
    number = cpu.rstrip("mkKMGTi")
    scale = CPU_SCALES.get(cpu.removeprefix(number), 1.0)
    return max(1, min(MAX_THREADS, int(float(number) * scale)))


def _selector(worker: Worker | None) -> dict[str, str]:
    return dict(worker.node_selector or {}) if worker else {}


def _tolerations(worker: Worker | None, pool: NodePool | None) -> list[Object]:
    listed = [*((worker.tolerations or []) if worker else []), *((pool.tolerations or []) if pool else [])]
    wire = [toleration.to_manifest() for toleration in listed]
    if pool is not None and pool.capacity_type == "Spot":
        wire += [
            {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS}
            for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
        ]
    return wire


def _metadata(owner: Identity, name: str, labels: Mapping[str, str]) -> Object:
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**MANAGED, LABEL_RUN: owner.uid, **labels},
        "ownerReferences": owner.owner_references,
    }
