"""What the pods of an EvaluationJob share, from its spec, its policy and the operator's settings. Pure."""

from evalfleet.api.evaluationjob import EvaluationJob, Worker
from evalfleet.manifests.pod import CACHE_FOLDER, PodShape
from evalfleet.manifests.runspec import RunPlace, run_spec
from evalfleet.reconcile.children import Child
from evalfleet.reconcile.job.accept import security, store_uri
from evalfleet.reconcile.job.world import World
from evalfleet_worker.protocol import RunSpec

CLAIM_SCHEME = "pvc://"


def job_spec(world: World) -> RunSpec:
    """The RunSpec of an accepted job; its pods find the folders of pvc:// addresses by themselves."""
    assert world.job is not None
    keys = security(world)
    place = RunPlace(
        namespace=world.identity.namespace,
        run_id=world.identity.uid,
        store_uri=store_uri(world) or "",
        allow_remote_code=keys.allow_remote_code,
        allow_unsafe_code=keys.allow_unsafe_code,
    )
    return run_spec(world.job, place)


def pod_shape(world: World) -> PodShape:
    """Image, allow-listed pod fields, Secrets and claims of the job's pods."""
    assert world.job is not None
    spec = world.job.spec
    worker = _merged(spec.worker, world.policy.spec.worker if world.policy else None)
    secrets = (name for _, name in _secret_fields(world))
    return PodShape(
        image=(worker.image if worker else None) or world.site.worker_image,
        worker=worker,
        secrets=tuple(dict.fromkeys(name for name in secrets if name)),
        claims=_claims(world.job, store_uri(world)),
        cache=world.site.host_cache or CACHE_FOLDER,
    )


def waiting_words(world: World, child: Child) -> str:
    """What a child waits for; a missing Secret with the members that name it."""
    if child.reason != "SecretMissing" or world.job is None:
        return child.message
    fields = [field for field, name in _secret_fields(world) if name and f" {name} " in child.message]
    return f"{child.message} (named by {' and '.join(fields)})" if fields else child.message


def _secret_fields(world: World) -> tuple[tuple[str, str | None], ...]:
    assert world.job is not None
    spec, policy = world.job.spec, world.policy
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


def _claims(job: EvaluationJob, store: str | None) -> tuple[str, ...]:
    uris = (job.spec.model.uri, job.spec.model.tokenizer_uri, job.spec.data.uri if job.spec.data else None, store)
    claims = (uri.removeprefix(CLAIM_SCHEME).split("/", 1)[0] for uri in uris if uri and uri.startswith(CLAIM_SCHEME))
    return tuple(dict.fromkeys(claims))
