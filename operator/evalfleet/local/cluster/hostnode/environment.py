"""The environment of a container from its manifest (pure)."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalfleet.manifests.quantities import parse_quantity

Object = dict[str, Any]
_REFERENCE = re.compile(r"\$\$|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class ContainerConfigError(Exception):
    """What the kubelet reports as CreateContainerConfigError."""


@dataclass(frozen=True)
class Sources:
    """Decoded ConfigMaps and Secrets of the pod's namespace by name; an absent one is missing here."""

    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class PodFacts:
    """What field references may name beside the manifest."""

    pod_ip: str
    host_ip: str


def container_environment(pod: Object, container: Object, sources: Sources, facts: PodFacts) -> dict[str, str]:
    """Variables in manifest order; `$(NAME)` refers to those before it.

    Raises:
        ContainerConfigError: a referenced ConfigMap, Secret, key or field does not exist.
    """
    environment: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        environment.update(_from_whole(source, sources))
    for variable in container.get("env") or []:
        value = _value(variable, pod, container, sources, facts)
        if value is not None:
            environment[variable["name"]] = expand(value, environment) if "value" in variable else value
    return environment


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace `$(NAME)`; `$$` is a dollar sign and an unknown name stays as it is."""

    def replacement(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return environment.get(match.group(1), match.group(0))

    return _REFERENCE.sub(replacement, text)


def field_value(path: str, pod: Object, facts: PodFacts) -> str:
    """Value of a downward API field."""
    keyed = _KEYED.fullmatch(path)
    if keyed:
        return str((pod["metadata"].get(keyed.group(1)) or {}).get(keyed.group(2), ""))
    values = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": facts.pod_ip,
        "status.podIPs": facts.pod_ip,
        "status.hostIP": facts.host_ip,
        "status.hostIPs": facts.host_ip,
    }
    if path in ("metadata.labels", "metadata.annotations"):
        entries = pod["metadata"].get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(entries.items()))
    try:
        return str(values[path])
    except KeyError:
        raise ContainerConfigError(f"unsupported fieldPath {path}") from None


def resource_value(container: Object, reference: Object) -> str:
    """Value of a resource field reference, rounded up to its divisor."""
    kind, _, name = reference["resource"].partition(".")
    amount = (container.get("resources") or {}).get(kind, {}).get(name, "0")
    divisor = parse_quantity(str(reference.get("divisor") or "1")) or 1
    return str(math.ceil(parse_quantity(str(amount)) / divisor))


def _from_whole(source: Object, sources: Sources) -> dict[str, str]:
    prefix = source.get("prefix", "")
    reference = source.get("configMapRef") or source.get("secretRef") or {}
    kind = "configmap" if "configMapRef" in source else "secret"
    objects = sources.config_maps if kind == "configmap" else sources.secrets
    content = objects.get(reference["name"])
    if content is None:
        if reference.get("optional"):
            return {}
        raise ContainerConfigError(f'{kind} "{reference["name"]}" not found')
    return {prefix + key: value for key, value in content.items()}


def _value(variable: Object, pod: Object, container: Object, sources: Sources, facts: PodFacts) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return str(variable.get("value", ""))
    if "fieldRef" in origin:
        return field_value(origin["fieldRef"]["fieldPath"], pod, facts)
    if "resourceFieldRef" in origin:
        return resource_value(container, origin["resourceFieldRef"])
    if "configMapKeyRef" in origin:
        return _key("configmap", origin["configMapKeyRef"], sources.config_maps, pod)
    if "secretKeyRef" in origin:
        return _key("secret", origin["secretKeyRef"], sources.secrets, pod)
    raise ContainerConfigError(f"unsupported source of variable {variable['name']}: {', '.join(origin)}")


def _key(kind: str, reference: Object, objects: Mapping[str, Mapping[str, str]], pod: Object) -> str | None:
    content = objects.get(reference["name"])
    if content is not None and reference["key"] in content:
        return content[reference["key"]]
    if reference.get("optional"):
        return None
    if content is None:
        raise ContainerConfigError(f'{kind} "{reference["name"]}" not found')
    noun = "ConfigMap" if kind == "configmap" else "Secret"
    name = f"{pod['metadata']['namespace']}/{reference['name']}"
    raise ContainerConfigError(f"couldn't find key {reference['key']} in {noun} {name}")
