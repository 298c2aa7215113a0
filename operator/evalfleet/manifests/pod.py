"""The pod of one worker command. Pure.

Pods are restricted: non-root, no capabilities, read-only root, no service-account token; nothing of them comes from a
user's pod template, only from the allow-listed fields of the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from evalfleet.api.evaluationjob import Resources, Worker
from evalfleet.api.scalingpolicy import NodePool
from evalfleet.manifests.accelerators import CPU, accelerator_of, resource_name
from evalfleet.manifests.names import Identity, Object
from evalfleet.manifests.quantities import parse_quantity

SPEC_FOLDER = "/etc/evalfleet"
CACHE_FOLDER = "/var/lib/evalfleet/cache"
WORK_FOLDER = "/var/lib/evalfleet/work"
CLAIMS_FOLDER = "/var/lib/evalfleet/claims"
TERMINATION_PATH = "/dev/termination-log"
GRACE_SECONDS = 30
UNREACHABLE_SECONDS = 30
"""On a machine that does not answer, then it is replaced: what it held is taken over by others anyway."""
PLAN_CPU, PLAN_MEMORY = "1", "4Gi"
"""Most that a plan or finish pod asks by default: it reads and merges, the model stays where the workers are."""
MAX_THREADS = 256


@dataclass(frozen=True, slots=True)
class PodShape:
    """What all pods of one EvaluationJob share, already checked.

    Attributes:
        image: worker image.
        worker: allow-listed pod fields of the job, or of its policy.
        secrets: names of Secrets given as environment.
        claims: names of PersistentVolumeClaims; the n-th is mounted at CLAIMS_FOLDER/n.
        cache: folder for models; the default is a volume of the pod.
        device_kind: what the run is computed on, `cpu` or `cuda`.
    """

    image: str
    worker: Worker | None = None
    secrets: tuple[str, ...] = ()
    claims: tuple[str, ...] = ()
    cache: str = CACHE_FOLDER
    device_kind: str = CPU


@dataclass(frozen=True, slots=True)
class Command:
    """One of the worker commands as a pod.

    Attributes:
        role: plan, work or finish.
        name: name of the Job.
        environment: extra variables.
        labels: extra labels of Job and pod.
        annotations: extra annotations of Job and pod.
        avoid: names of nodes to keep away from, if there are others.
    """

    role: str
    name: str
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    avoid: tuple[str, ...] = ()


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
    if command.avoid:
        spec["affinity"] = _affinity(command.avoid)
    if worker is not None:
        if worker.image_pull_secrets:
            spec["imagePullSecrets"] = [{"name": name} for name in worker.image_pull_secrets]
        if worker.runtime_class_name:
            spec["runtimeClassName"] = worker.runtime_class_name
        if worker.service_account_name:
            spec["serviceAccountName"] = worker.service_account_name
    return spec


def _affinity(avoid: tuple[str, ...]) -> Object:
    """A preference, not a rule: Karpenter makes no node for pods that require or exclude hosts (decision 0046)."""
    term = {"key": "kubernetes.io/hostname", "operator": "NotIn", "values": list(avoid)}
    preferred = [{"weight": 100, "preference": {"matchExpressions": [term]}}]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def _container(shape: PodShape, command: Command, pool: NodePool | None) -> Object:
    resources = _resources(shape.worker, pool) if command.role == "work" else _plan_resources(shape.worker)
    requests = resources["requests"]
    environment = {
        "EVALFLEET_CACHE": shape.cache,
        "EVALFLEET_TERMINATION_LOG": TERMINATION_PATH,
        "EVALFLEET_LOG_FORMAT": "json",
        "EVALFLEET_THREADS": str(_threads(requests["cpu"])),
        "EVALFLEET_GRACE_SECONDS": str(GRACE_SECONDS - 5),
        "HOME": WORK_FOLDER,
        "TMPDIR": WORK_FOLDER,
        **_claim_variables(shape.claims),
        **(_device_variables(shape, pool) if pool is not None else {}),
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
        "resources": resources,
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
    """What a worker asks for."""
    asked = _asked(worker.resources if worker else None, Resources())
    accelerator = accelerator_of(pool) if pool is not None else None
    if accelerator is not None:
        asked["limits"][resource_name(accelerator)] = str(accelerator.count_per_worker)
    return asked


def _device_variables(shape: PodShape, pool: NodePool) -> dict[str, str]:
    """What a worker is to compute on: it never takes a CPU for the GPU that it was given (docs/engine.md)."""
    if shape.device_kind == CPU:
        return {"EVALFLEET_DEVICE": CPU}
    accelerator = accelerator_of(pool)
    return {"EVALFLEET_ACCELERATOR": accelerator.product or resource_name(accelerator)} if accelerator else {}


def _plan_resources(worker: Worker | None) -> Object:
    """What a plan or finish pod asks for: its own, else what a worker asks, but no more than it needs as a rule."""
    own, workers = (worker.plan_resources, worker.resources) if worker else (None, None)
    default = workers or Resources()
    small = default.model_copy(
        update={"cpu": _at_most(default.cpu, PLAN_CPU), "memory": _at_most(default.memory, PLAN_MEMORY)}
    )
    return _asked(own, small)


def _asked(own: Resources | None, default: Resources) -> Object:
    """Requests and limits, member by member: its own, else the default's, else the built-in ones."""
    cpu, memory, storage = (
        (getattr(own, member) if own else None) or getattr(default, member)
        for member in ("cpu", "memory", "ephemeral_storage")
    )
    requests = {"cpu": cpu or "1", "memory": memory or "2Gi", **({"ephemeral-storage": storage} if storage else {})}
    return {"requests": requests, "limits": {"memory": memory} if memory else {}}


def _at_most(quantity: str | None, most: str) -> str | None:
    return most if quantity is not None and parse_quantity(quantity) > parse_quantity(most) else quantity


def _threads(cpu: str) -> int:
    """Compute threads: whole cores of the request, so that neighbours on a node are left alone."""
    return max(1, min(MAX_THREADS, int(parse_quantity(cpu))))


def _selector(worker: Worker | None) -> dict[str, str]:
    return dict(worker.node_selector or {}) if worker else {}


def _tolerations(worker: Worker | None, pool: NodePool | None) -> list[Object]:
    listed = [*((worker.tolerations or []) if worker else []), *((pool.tolerations or []) if pool else [])]
    wire = [toleration.to_manifest() for toleration in listed]
    return wire + [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": UNREACHABLE_SECONDS}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
