"""What others do to objects on their way into the API server, as MutatingAdmissionPolicies: sidecars, queues, fate."""

import json
from typing import Any

from cluster_client import Client
from scripted_nodes import TOLERATION, ScriptedNode

Object = dict[str, Any]
GROUP = "/apis/admissionregistration.k8s.io/v1"
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
JOBS = {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["jobs"]}


def send_to(client: Client, namespace: str, pattern: str, node: ScriptedNode) -> None:
    """Pods whose generated name matches come to a scripted node."""
    hostname = {"op": "add", "path": "/spec/nodeSelector", "value": {"kubernetes.io/hostname": node.name}}
    tolerate = {"op": "add", "path": "/spec/tolerations/-", "value": TOLERATION}
    when = f"object.metadata.generateName.matches('^{pattern}$')"
    _mutate(client, namespace, f"to-{node.name}", (PODS, when), [hostname, tolerate])


def add_sidecar(client: Client, namespace: str, prefix: str, container: Object) -> None:
    """Pods whose generated name begins so get another container, before their own."""
    patch = [{"op": "add", "path": "/spec/containers/0", "value": container}]
    when = f"object.metadata.generateName.startsWith('{prefix}')"
    _mutate(client, namespace, f"beside-{prefix}".rstrip("-"), (PODS, when), patch)


def suspend_jobs(client: Client, namespace: str, prefix: str) -> None:
    """Jobs whose name begins so are suspended, as a queue does that manages Jobs without a queue name."""
    patch = [{"op": "add", "path": "/spec/suspend", "value": True}]
    when = f"object.metadata.name.startsWith('{prefix}')"
    _mutate(client, namespace, f"queue-{prefix}".rstrip("-"), (JOBS, when), patch)


def _mutate(client: Client, namespace: str, name: str, matched: tuple[Object, str], patch: list[Object]) -> None:
    """A policy with its binding: which objects, when, and what is done to them."""
    operations = ", ".join(
        f"JSONPatch{{op: {json.dumps(one['op'])}, path: {json.dumps(one['path'])}, value: {_cel(one['value'])}}}"
        for one in patch
    )
    inside = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    full = f"{namespace}-{name}"
    spec = {
        "reinvocationPolicy": "Never",
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [matched[0]], **inside},
        "matchConditions": [{"name": "named", "expression": matched[1]}],
        "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": f"[{operations}]"}}],
    }
    client.create(f"{GROUP}/mutatingadmissionpolicies", {"metadata": {"name": full}, "spec": spec})
    client.create(
        f"{GROUP}/mutatingadmissionpolicybindings", {"metadata": {"name": full}, "spec": {"policyName": full}}
    )


def _cel(value: Any) -> str:
    """A JSON value as a CEL literal of no declared type."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: dyn({_cel(member)})" for key, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_cel(member) for member in value) + "]"
    return json.dumps(value)
