"""What decides the pods of a run, written once when the run begins, and read again from its ConfigMap. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from evalfleet.api.evaluationjob import Worker
from evalfleet.manifests.names import Identity, Object, metadata
from evalfleet.manifests.pod import PodShape
from evalfleet_worker.protocol import RunSpec, dumps, loads

FROZEN_VERSION = 1
"""A member more or less is another version: who does not know it would make other pods."""
SPEC, RUN = "spec.json", "run.json"
"""Members of the ConfigMap: what the pods read, and what their manifests are made of."""
MEMBERS = frozenset({"version", "policy", "image", "worker", "secrets", "claims", "cache"})


class FrozenUnreadableError(ValueError):
    """The record is not of this version; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class FrozenRun:
    """Everything that decides what the pods of a run are, but for the pool of a worker.

    Attributes:
        policy_name, policy_uid: the policy that it began under; an empty uid = built-in defaults.
        shape: image, pod fields, Secrets, claims and cache.
        secret_fields: which member of which object names each Secret.
        spec: what its pods read.
    """

    policy_name: str
    policy_uid: str
    shape: PodShape
    secret_fields: tuple[tuple[str, str], ...]
    spec: RunSpec


def run_config_map(owner: Identity, run: FrozenRun) -> Object:
    """The ConfigMap of a run: the API server keeps anybody from changing it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(owner, owner.child("run"), {}),
        "immutable": True,
        "data": {SPEC: dumps(run.spec), RUN: json.dumps(_document(run), separators=(",", ":"))},
    }


def frozen_run(body: Mapping[str, Any]) -> FrozenRun | None:
    """The run that a ConfigMap holds; None for one of a version that froze nothing.

    Raises:
        FrozenUnreadableError: it is of another version, or damaged.
    """
    data = body.get("data") or {}
    if RUN not in data:
        return None
    try:
        return _run(json.loads(data[RUN]), loads(RunSpec, data[SPEC]))
    except (KeyError, TypeError, AttributeError, ValueError, ValidationError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
        raise FrozenUnreadableError(f"ConfigMap {body['metadata']['name']}: {problem}") from error


def _document(run: FrozenRun) -> dict[str, Any]:
    shape = run.shape
    return {
        "version": FROZEN_VERSION,
        "policy": {"name": run.policy_name, "uid": run.policy_uid},
        "image": shape.image,
        "worker": shape.worker.model_dump(mode="json", by_alias=True, exclude_none=True) if shape.worker else None,
        "secrets": [{"field": field, "name": name} for field, name in run.secret_fields],
        "claims": list(shape.claims),
        "cache": shape.cache,
    }


def _run(document: Mapping[str, Any], spec: RunSpec) -> FrozenRun:
    if document["version"] != FROZEN_VERSION or set(document) != MEMBERS:
        raise ValueError(f"version {document['version']} with {', '.join(sorted(document))}")
    fields = tuple((str(entry["field"]), str(entry["name"])) for entry in document["secrets"])
    worker = document["worker"]
    shape = PodShape(
        image=str(document["image"]),
        worker=None if worker is None else Worker.model_validate(worker),
        secrets=tuple(dict.fromkeys(name for _, name in fields)),
        claims=tuple(map(str, document["claims"])),
        cache=str(document["cache"]),
        device_kind=spec.device_kind,
    )
    policy = document["policy"]
    return FrozenRun(str(policy["name"]), str(policy["uid"]), shape, fields, spec)
