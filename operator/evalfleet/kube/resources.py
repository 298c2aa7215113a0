"""Where the kinds that the operator handles live in the API, and the key of one object. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evalfleet.api.wire import API_VERSION

GROUPS = {
    "EvaluationJob": (f"apis/{API_VERSION}", "evaluationjobs"),
    "ScalingPolicy": (f"apis/{API_VERSION}", "scalingpolicies"),
    "Job": ("apis/batch/v1", "jobs"),
    "Pod": ("api/v1", "pods"),
    "ConfigMap": ("api/v1", "configmaps"),
}
WATCHED = ("ScalingPolicy", "EvaluationJob", "Job", "Pod")
CHILDREN = ("Job", "Pod")
"""Kinds that are watched and listed by our label only."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One object: kind, namespace, name."""

    kind: str
    namespace: str
    name: str


def key_of(kind: str, body: Mapping[str, Any]) -> Key:
    """The key of an object."""
    metadata = body["metadata"]
    return Key(kind, str(metadata.get("namespace") or ""), str(metadata["name"]))


def collection_path(kind: str, namespace: str | None) -> str:
    """The path of a kind, in a namespace or everywhere."""
    group, plural = GROUPS[kind]
    return f"/{group}/namespaces/{namespace}/{plural}" if namespace else f"/{group}/{plural}"


def api_version(kind: str) -> str:
    """The apiVersion of a kind; the items of a listing do not carry it."""
    return GROUPS[kind][0].removeprefix("apis/").removeprefix("api/")


def object_path(key: Key) -> str:
    """The path of one object."""
    return f"{collection_path(key.kind, key.namespace)}/{key.name}"
