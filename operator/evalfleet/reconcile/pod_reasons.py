"""What kubelets and schedulers say of a pod that does not run, and whose fault that is. Pure.

Their own sentences are always kept: people search for them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Object = Mapping[str, Any]
WORKER = "worker"
"""The container that speaks for the worker, whatever else was injected into its pod."""

CONFIG_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
IMAGE_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
SAME_EVERYWHERE = frozenset({"ErrImageNeverPull", "InvalidImageName", "SignatureValidationFailed"})
"""Image errors that no other node mends."""
NO_SUCH_IMAGE = re.compile(
    r"not found|manifest unknown|no such image|unauthorized|authentication required|access denied|forbidden",
    re.IGNORECASE,
)
"""Reason of registries (containerd, CRI-O, docker) of an image that does not exist or may not be pulled."""
ORDINARY = frozenset({"ContainerCreating", "PodInitializing", ""})


class Whose(StrEnum):
    """Where the fault lies: with the job's own objects, with the machine, or with another controller that holds it."""

    JOB = "Job"
    NODE = "Node"
    OTHER = "Other"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pod does not run: a CamelCase reason, a sentence, and whose fault it is."""

    reason: str
    message: str
    whose: Whose = Whose.NODE


def container_states(pod: Object, kind: str) -> Iterator[tuple[str, str, Object]]:
    """Name, image and state of the containers that have a state of a kind; init containers first."""
    status = pod.get("status") or {}
    for listed in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(listed) or []:
            state = (container.get("state") or {}).get(kind)
            if state is not None:
                yield str(container.get("name")), str(container.get("image")), state


def waiting_reason(pod: Object) -> Reason:
    """Why a pod that has a node does not run: the reason of whichever container waits, the gravest first."""
    found = [_container_reason(*waiting) for waiting in container_states(pod, "waiting")]
    graver = [why for why in found if why is not None]
    if graver:
        return min(graver, key=lambda why: (why.whose is not Whose.JOB, why.reason == "WaitingForPod"))
    running = [name for name, _, _ in _init_states(pod, "running") if name not in _sidecars(pod)]
    if running:
        return Reason("WaitingForPod", f"the pod is starting: init container {running[0]} has not ended")
    return Reason("WaitingForPod", "the pod is starting")


def scheduling_reason(pod: Object) -> Reason:
    """Why a pod has no node."""
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            message = str(condition.get("message") or "unschedulable")
            if condition.get("reason") == "SchedulingGated":
                why = f"another controller holds the pod back by a scheduling gate: {message}"
                return Reason("SuspendedElsewhere", why, Whose.OTHER)
            return _not_scheduled(message)
    return Reason("WaitingForNode", "the scheduler has not looked at the pod yet")


def resource_of(message: str) -> str | None:
    """The resource that an evicting or rejecting kubelet ran out of, None where it names none."""
    named = re.search(r"(?:low on resource|enough resource): ([\w/-]+(?:\.[\w/-]+)*)", message)
    if named is not None:
        return named.group(1)
    disk = re.search(r"ephemeral local storage|local ephemeral storage|emptydir volume", message, re.IGNORECASE)
    return None if disk is None else "ephemeral-storage"


def request_of(resource: str, member: str) -> str:
    """What of a spec asks for a resource; `member` is `resources` or `planResources`."""
    known = {"ephemeral-storage": "ephemeralStorage", "memory": "memory", "cpu": "cpu"}.get(resource)
    return f"spec.worker.{member}.{known}" if known else f"the request of {resource}"


def _init_states(pod: Object, kind: str) -> Iterator[tuple[str, str, Object]]:
    status = {"initContainerStatuses": (pod.get("status") or {}).get("initContainerStatuses")}
    return container_states({"status": status}, kind)


def _sidecars(pod: Object) -> frozenset[str]:
    """Names of the init containers that are meant to run beside the worker."""
    inits = (pod.get("spec") or {}).get("initContainers") or []
    return frozenset(str(container.get("name")) for container in inits if container.get("restartPolicy") == "Always")


def _container_reason(name: str, image: str, waiting: Object) -> Reason | None:
    """Reason of one container; None for one that only waits for its turn."""
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason in ORDINARY and not message:
        return None
    who = "" if name == WORKER else f"container {name}: "
    if reason in IMAGE_REASONS:
        everywhere = reason in SAME_EVERYWHERE or NO_SUCH_IMAGE.search(message) is not None
        said = ": ".join(part for part in (reason, message) if part)
        why = f"{who}the image cannot be pulled: {said if image in said else f'{said} ({image})'}"
        return Reason("WaitingForImage", why, Whose.JOB if everywhere else Whose.NODE)
    if reason in CONFIG_REASONS:
        return _not_configured(who, message or reason)
    return Reason("WaitingForPod", f"the pod is starting: {who}{reason}{': ' if message else ''}{message}")


def _not_configured(who: str, message: str) -> Reason:
    missing = re.search(r'(secret|configmap) "([^"]+)" not found', message)
    if missing is None:
        return Reason("PodConfigInvalid", f"{who}the container cannot be configured: {message}", Whose.JOB)
    if missing.group(1) == "configmap":
        advice = f"ConfigMap {missing.group(2)} does not exist: it belongs to the job: create the job anew"
        return Reason("PodConfigInvalid", f"{who}{advice}", Whose.JOB)
    why = f"{who}Secret {missing.group(2)} does not exist: create it and the job goes on by itself"
    return Reason("SecretMissing", why, Whose.JOB)


def _not_scheduled(message: str) -> Reason:
    missing = re.search(r'persistentvolumeclaim "([^"]+)" not found', message)
    if missing is None:
        return Reason("WaitingForNode", f"no node fits yet: {message}")
    why = f"PersistentVolumeClaim {missing.group(1)} does not exist: create it and the job goes on by itself"
    return Reason("ClaimMissing", why, Whose.JOB)


def refusal_reason(messages: Iterable[str]) -> Reason | None:
    """Why the Job controller could not create a pod, by the newest of its messages; None where it said nothing."""
    newest = next((message for message in messages if message), None)
    if newest is None:
        return None
    said = newest.removeprefix("Error creating: ")
    if "exceeded quota" in said:
        return Reason("WaitingForQuota", f"a ResourceQuota of the namespace refuses the pod: {said}", Whose.JOB)
    return Reason("ObjectRefused", f"the API server refuses the pod: {said}", Whose.JOB)
