"""The pod of one worker command. Pure.

Pods are restricted: non-root, no capabilities, read-only root, no service-account token; nothing of them comes from a
user's pod template, only from the allow-listed fields of the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalfleet.api.evaluationjob import Worker
from evalfleet.api.scalingpolicy import NodePool
from evalfleet.manifests.names import Identity, Object

SPEC_FOLDER = "/etc/evalfleet"
CACHE_FOLDER = "/var/lib/evalfleet/cache"
WORK_FOLDER = "/var/lib/evalfleet/work"
CLAIMS_FOLDER = "/var/lib/evalfleet/claims"
TERMINATION_PATH = "/dev/termination-log"
GRACE_SECONDS = 30
UNREACHABLE_SECONDS = 30
MAX_THREADS = 256
CPU_SCALES = {"m": 1e-3, "k": 1e3}
"""Suffixes that make sense for CPU; the API server takes others as well, and no node has so many cores."""


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


def pod_spec(owner: Identity, shape: PodShape, command: Command, pool: NodePool | None) -> Object:
    """The spec of the pod that runs a command, in a pool or, without one, on any node."""
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
