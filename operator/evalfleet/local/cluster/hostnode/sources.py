"""ConfigMaps, Secrets, claims and tokens that a pod refers to, read from the API server."""

import base64
from collections.abc import Iterator
from typing import Any

from evalfleet.kube.client import Kube, KubeError, Object
from evalfleet.local.cluster.hostnode.environment import Sources


async def fetch_sources(kube: Kube, pod: Object) -> Sources:
    """Every ConfigMap and Secret the pod names, decoded; those that do not exist are left out."""
    namespace = pod["metadata"]["namespace"]
    config_maps, secrets = {}, {}
    for kind, name in sorted(set(_references(pod))):
        content = await _fetch(kube, f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        if content is None:
            continue
        if kind == "configmaps":
            config_maps[name] = {**(content.get("data") or {}), **_decoded(content.get("binaryData"))}
        else:
            secrets[name] = _decoded(content.get("data"))
    return Sources(config_maps, secrets)


async def claimed_host_path(kube: Kube, namespace: str, claim: str) -> str | None:
    """Folder of the volume that is bound to a claim; None while it is not bound to a host path."""
    found = await _fetch(kube, f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
    volume_name = (found or {}).get("spec", {}).get("volumeName")
    volume = await _fetch(kube, f"/api/v1/persistentvolumes/{volume_name}") if volume_name else None
    spec = (volume or {}).get("spec", {})
    path = (spec.get("hostPath") or spec.get("local") or {}).get("path")
    return str(path) if path else None


async def service_account_token(kube: Kube, pod: Object, projection: Object) -> str:
    """A token bound to the pod, as the kubelet requests it."""
    metadata = pod["metadata"]
    account = pod["spec"].get("serviceAccountName") or "default"
    audience = projection.get("audience")
    spec: dict[str, Any] = {
        "expirationSeconds": projection.get("expirationSeconds", 3600),
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
        **({"audiences": [audience]} if audience else {}),
    }
    path = f"/api/v1/namespaces/{metadata['namespace']}/serviceaccounts/{account}/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
    return str((await kube.create(path, request))["status"]["token"])


async def _fetch(kube: Kube, path: str) -> Object | None:
    try:
        return await kube.get(path)
    except KubeError as error:
        if error.status == 404:
            return None
        raise


def _decoded(data: dict[str, str] | None) -> dict[str, str]:
    # Surrogates keep every byte value, so that a binary value survives the way through a string.
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in (data or {}).items()}


def _references(pod: Object) -> Iterator[tuple[str, str]]:
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            yield from _pair(source.get("configMapRef"), source.get("secretRef"))
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            yield from _pair(origin.get("configMapKeyRef"), origin.get("secretKeyRef"))
    for volume in spec.get("volumes") or []:
        for part in (volume, *((volume.get("projected") or {}).get("sources") or [])):
            yield from _pair(part.get("configMap"), part.get("secret"))


def _pair(config_map: Object | None, secret: Object | None) -> Iterator[tuple[str, str]]:
    if config_map:
        yield "configmaps", config_map["name"]
    if secret:
        yield "secrets", secret.get("secretName") or secret["name"]
