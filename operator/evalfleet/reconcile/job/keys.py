"""What a policy permits a job: images, addresses, and variables that say where something is fetched. Pure.

A policy that lists where models may come from has a list for everything that a job names, until it says otherwise.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy, Security
from evalfleet_worker.places import is_allowed, is_allowed_image, names_a_place

Prefixes = Sequence[str] | None
"""None = any."""


@dataclass(frozen=True, slots=True)
class Forbidden:
    """What a policy does not permit, and the list that would have to name it."""

    reason: str
    message: str


def security(policy: ScalingPolicy | None) -> Security:
    """What a policy permits; the safe defaults without one."""
    return (policy.spec.security if policy is not None else None) or Security()


def endpoints(policy: ScalingPolicy | None) -> tuple[str, ...] | None:
    """Where variables of a job may point: what the policy lists, and what its own variables name; None = anywhere."""
    listed = _endpoints(security(policy))
    if listed is None or policy is None:
        return None
    own = (policy.spec.worker.env or []) if policy.spec.worker is not None else []
    return (*listed, *(entry.value for entry in own if names_a_place(entry.name, entry.value)))


def forbidden(job: EvaluationJob, policy: ScalingPolicy | None) -> Forbidden | None:
    """The first thing that a job names and its policy does not permit."""
    keys = security(policy)
    return next(chain(_images(job, keys), _addresses(job, policy), _variables(job, policy)), None)


def _endpoints(keys: Security) -> Prefixes:
    if keys.allowed_endpoints is not None:
        return keys.allowed_endpoints
    return None if keys.allowed_model_uri_prefixes is None else ()


def _images(job: EvaluationJob, keys: Security) -> Iterator[Forbidden]:
    image = job.spec.worker.image if job.spec.worker else None
    if image is not None and keys.allowed_images is not None and not is_allowed_image(image, keys.allowed_images):
        yield Forbidden("ImageForbidden", f"image {image} is not among the policy's allowedImages")


def _addresses(job: EvaluationJob, policy: ScalingPolicy | None) -> Iterator[Forbidden]:
    keys, spec = security(policy), job.spec
    models = keys.allowed_model_uri_prefixes
    data = models if keys.allowed_data_uri_prefixes is None else keys.allowed_data_uri_prefixes
    stores = models if keys.allowed_store_uri_prefixes is None else keys.allowed_store_uri_prefixes
    if stores is not None and policy is not None and policy.spec.store is not None:
        stores = [*stores, policy.spec.store.uri]
    members: tuple[tuple[str, str | None, Prefixes, str], ...] = (
        ("model.uri", spec.model.uri, models, "allowedModelUriPrefixes"),
        ("model.tokenizerUri", spec.model.tokenizer_uri, models, "allowedModelUriPrefixes"),
        ("data.uri", spec.data.uri if spec.data else None, data, "allowedDataUriPrefixes"),
        ("store.uri", spec.store.uri if spec.store else None, stores, "allowedStoreUriPrefixes"),
    )
    for member, uri, prefixes, field in members:
        if uri is not None and prefixes is not None and not is_allowed(uri, prefixes):
            reason = "ModelForbidden" if member.startswith("model.") else "UriForbidden"
            yield Forbidden(reason, f"spec.{member} {uri} is not among the policy's {_named(keys, field)}")


def _named(keys: Security, field: str) -> str:
    """The list that was looked at: the models' own where the policy has no other."""
    own = {
        "allowedDataUriPrefixes": keys.allowed_data_uri_prefixes,
        "allowedStoreUriPrefixes": keys.allowed_store_uri_prefixes,
    }
    models = "allowedModelUriPrefixes"
    return field if own.get(field, ()) is not None else f"{models} (it has no {field} of its own)"


def _variables(job: EvaluationJob, policy: ScalingPolicy | None) -> Iterator[Forbidden]:
    listed = endpoints(policy)
    if listed is None:
        return
    for entry in (job.spec.worker.env or []) if job.spec.worker else []:
        if names_a_place(entry.name, entry.value) and not is_allowed(entry.value, listed):
            advice = "add its value to security.allowedEndpoints, or set the variable in the policy's worker.env"
            yield Forbidden(
                "EndpointForbidden",
                f"variable {entry.name} of spec.worker.env may say where something is fetched from: {advice}",
            )
