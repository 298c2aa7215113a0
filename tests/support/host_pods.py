"""Builders of pods and Jobs for host nodes."""

from typing import Any

Object = dict[str, Any]
IMAGE = "evalfleet/worker:test"


def python(code: str, **fields: Any) -> Object:
    """A container that runs Python code."""
    return {"name": "main", "image": IMAGE, "command": ["python", "-c", code], **fields}


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    """A pod that is not restarted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": containers, **spec},
    }


def job(name: str, container: Object, pod_spec: Object | None = None, **spec: Any) -> Object:
    """A batch/v1 Job of one pod."""
    template = pod(name, container, **(pod_spec or {}))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            **spec,
        },
    }


def container_state(found: Object, name: str = "main") -> Object:
    """State of a container in a pod's status."""
    statuses = found.get("status", {}).get("containerStatuses") or []
    return next((status["state"] for status in statuses if status["name"] == name), {})


def ended(found: Object) -> bool:
    """The pod has reached a terminal phase."""
    return found.get("status", {}).get("phase") in ("Succeeded", "Failed")


def running(found: Object) -> bool:
    """All containers of the pod run."""
    statuses = found.get("status", {}).get("containerStatuses") or []
    return bool(statuses) and all("running" in status["state"] for status in statuses)
