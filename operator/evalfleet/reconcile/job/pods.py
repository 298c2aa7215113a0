"""What the pods of an EvaluationJob share: of its run as it was frozen, or as it would be. Pure."""

from dataclasses import replace

from evalfleet.api.evaluationjob import EvaluationJob, Worker
from evalfleet.api.scalingpolicy import NodePool
from evalfleet.manifests.accelerators import devices_of
from evalfleet.manifests.frozen import FrozenRun
from evalfleet.manifests.images import is_pinned
from evalfleet.manifests.names import DEFAULT_POLICY
from evalfleet.manifests.pod import CACHE_FOLDER, PodShape
from evalfleet.manifests.runspec import RunPlace, run_spec
from evalfleet.reconcile.children import Child
from evalfleet.reconcile.job.accept import store_uri
from evalfleet.reconcile.job.keys import endpoints, security
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.pools import node_pools
from evalfleet_worker.protocol import RunSpec

CLAIM_SCHEME = "pvc://"
ARCHITECTURE = "kubernetes.io/arch"


def proposed(state: JobState) -> FrozenRun:
    """The run as it would be frozen now, by the job, its policy and the operator's settings."""
    assert state.job is not None
    fields = tuple((field, name) for field, name in _secret_fields(state) if name)
    store = store_uri(state) or ""
    spec = _run_spec(state, store)
    worker = _merged(state.job.spec.worker, state.policy.spec.worker if state.policy else None)
    shape = PodShape(
        image=(worker.image if worker else None) or state.site.worker_image,
        worker=worker,
        secrets=tuple(dict.fromkeys(name for _, name in fields)),
        claims=_claims(state.job, store),
        cache=state.site.host_cache or CACHE_FOLDER,
        device_kind=spec.device_kind,
    )
    return FrozenRun(
        policy_name=state.job.spec.policy_name or DEFAULT_POLICY,
        policy_uid=state.policy_uid,
        shape=shape,
        secret_fields=fields,
        spec=spec,
    )


def pod_shape(state: JobState, pool: NodePool | None = None) -> PodShape:
    """What the job's pods share: of the run as it began, and with the very image that planned it once that is known.

    `pool` is that of a worker, None for pods that run anywhere.
    """
    run = state.run or proposed(state)
    planned = str((state.status.get("plan") or {}).get("image") or "")
    if not is_pinned(run.shape.image, planned) or not _same_architecture(run, pool):
        return run.shape
    return replace(run.shape, image=planned)


def waiting_message(state: JobState, child: Child) -> str:
    """What a child waits for; a missing Secret with the members that name it."""
    if child.reason != "SecretMissing" or state.job is None:
        return child.message
    run = state.run or proposed(state)
    fields = [field for field, name in run.secret_fields if f" {name} " in child.message]
    return f"{child.message} (named by {' and '.join(fields)})" if fields else child.message


def _run_spec(state: JobState, store: str) -> RunSpec:
    """What the pods read; they find the folders of pvc:// addresses by themselves."""
    assert state.job is not None
    keys = security(state.policy)
    place = RunPlace(
        namespace=state.identity.namespace,
        run_id=state.identity.uid,
        store_uri=store,
        allow_remote_code=keys.allow_remote_code,
        allow_unsafe_code=keys.allow_unsafe_code,
        allowed_endpoints=endpoints(state.policy),
        devices=devices_of(node_pools(state.policy), state.site.simulated_gpus),
    )
    return run_spec(state.job, place)


def whereabouts(child: Child) -> str:
    """A child by its Job, its pod and the node it came to, as far as there are any: what `kubectl describe` takes."""
    if child.pod is None:
        return f"Job {child.name}"
    node = (child.pod.get("spec") or {}).get("nodeName")
    return f"Job {child.name}, pod {child.pod['metadata']['name']}{f' on node {node}' if node else ''}"


def _same_architecture(run: FrozenRun, pool: NodePool | None) -> bool:
    """Whether a pod may run the image of the plan pod by its digest, which may be of one architecture alone."""
    selected = (run.shape.worker.node_selector or {}) if run.shape.worker else {}
    planned = selected.get(ARCHITECTURE)
    return pool is None or {**selected, **pool.node_selector}.get(ARCHITECTURE) == planned


def _secret_fields(state: JobState) -> tuple[tuple[str, str | None], ...]:
    assert state.job is not None
    spec, policy = state.job.spec, state.policy
    own = ("spec.store.secretName", spec.store.secret_name if spec.store else None)
    default = policy.spec.store.secret_name if policy is not None and policy.spec.store else None
    return (
        ("spec.model.secretName", spec.model.secret_name),
        ("spec.data.secretName", spec.data.secret_name if spec.data else None),
        own if spec.store else ("spec.store.secretName of the ScalingPolicy", default),
    )


def _merged(own: Worker | None, default: Worker | None) -> Worker | None:
    """The job's members over the policy's, member by member."""
    if own is None or default is None:
        return own or default
    members = {
        name: getattr(own, name) if getattr(own, name) is not None else getattr(default, name)
        for name in Worker.model_fields
    }
    return Worker.model_construct(**members)


def _claims(job: EvaluationJob, store: str) -> tuple[str, ...]:
    uris = (job.spec.model.uri, job.spec.model.tokenizer_uri, job.spec.data.uri if job.spec.data else None, store)
    claims = (uri.removeprefix(CLAIM_SCHEME).split("/", 1)[0] for uri in uris if uri and uri.startswith(CLAIM_SCHEME))
    return tuple(dict.fromkeys(claims))
