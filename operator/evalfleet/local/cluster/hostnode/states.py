"""The states of a container and the pod status they add up to (pure).

Phases and reasons are those of the kubelet (pkg/kubelet/kubelet_pods.go getPhase, status/generate.go), because the
Job controller, podFailurePolicy and every client read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """Not started, or about to be started again."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """Started."""

    started_at: str


@dataclass(frozen=True)
class Terminated:
    """Ended, or could not be started."""

    exit_code: int
    reason: str
    started_at: str | None
    finished_at: str
    message: str = ""
    container_id: str = ""


State = Waiting | Running | Terminated


@dataclass(frozen=True)
class ContainerView:
    """What a status says of one container."""

    state: State = Waiting("ContainerCreating")
    last: Terminated | None = None
    restarts: int = 0
    container_id: str = ""
    image_id: str = ""


@dataclass(frozen=True)
class PodView:
    """Everything a pod status is made of."""

    containers: Mapping[str, ContainerView]
    init_containers: Mapping[str, ContainerView] = field(default_factory=dict)
    pod_ip: str = ""
    host_ip: str = ""
    start_time: str = ""
    terminating: bool = False
    # Set when the pod as a whole ended for a reason of its own, e.g. DeadlineExceeded.
    reason: str = ""
    message: str = ""


def phase_of(view: PodView, restart_policy: str) -> str:
    """Pending, Running, Succeeded or Failed."""
    if view.reason:
        return "Failed"
    inits, states = list(view.init_containers.values()), [item.state for item in view.containers.values()]
    ended = [state for state in states if isinstance(state, Terminated)]
    if view.terminating:
        return _ended_phase(ended, states)
    if any(isinstance(item.state, Terminated) and item.state.exit_code != 0 for item in inits):
        return "Failed" if restart_policy == "Never" else "Pending"
    if any(not isinstance(item.state, Terminated) for item in inits):
        return "Pending"
    never_ran = [item for item in view.containers.values() if isinstance(item.state, Waiting) and item.last is None]
    if never_ran:
        return "Pending"
    if len(ended) < len(states) or restart_policy == "Always":
        return "Running"
    if restart_policy == "OnFailure" and any(state.exit_code != 0 for state in ended):
        return "Running"
    return _ended_phase(ended, states)


def _ended_phase(ended: Sequence[Terminated], states: Sequence[State]) -> str:
    if any(isinstance(state, Running) for state in states):
        return "Running"
    complete = len(ended) == len(states) and all(state.exit_code == 0 for state in ended)
    # A pod deleted before its containers ran ends as Failed, so that its owner sees a terminal phase.
    return "Succeeded" if complete else "Failed"


def pod_status(pod: Object, view: PodView, now: str) -> Object:
    """The status to patch (strategic merge: conditions of other writers, such as DisruptionTarget, stay)."""
    spec = pod["spec"]
    phase = phase_of(view, spec.get("restartPolicy", "Always"))
    status: Object = {
        "phase": phase,
        "startTime": view.start_time,
        "hostIP": view.host_ip,
        "hostIPs": [{"ip": view.host_ip}],
        "podIP": view.pod_ip,
        "podIPs": [{"ip": view.pod_ip}],
        "observedGeneration": pod["metadata"].get("generation", 1),
        "containerStatuses": _statuses(spec["containers"], view.containers, phase),
        "conditions": _conditions(pod, view, phase, now),
    }
    if view.init_containers:
        status["initContainerStatuses"] = _statuses(spec["initContainers"], view.init_containers, phase)
    if view.reason:
        status.update(reason=view.reason, message=view.message)
    return status


def _statuses(containers: Sequence[Object], views: Mapping[str, ContainerView], phase: str) -> list[Object]:
    return [_container_status(container, views[container["name"]], phase) for container in containers]


def _container_status(container: Object, view: ContainerView, phase: str) -> Object:
    running = isinstance(view.state, Running)
    status: Object = {
        "name": container["name"],
        "image": container["image"],
        "imageID": view.image_id,
        "restartCount": view.restarts,
        "ready": running and phase == "Running",
        "started": running,
        "state": _state(view.state),
        "lastState": _state(view.last) if view.last else {},
    }
    if view.container_id:
        status["containerID"] = view.container_id
    return status


def _state(state: State) -> Object:
    if isinstance(state, Waiting):
        return {"waiting": {"reason": state.reason, **({"message": state.message} if state.message else {})}}
    if isinstance(state, Running):
        return {"running": {"startedAt": state.started_at}}
    return {
        "terminated": {
            "exitCode": state.exit_code,
            "reason": state.reason,
            "startedAt": state.started_at,
            "finishedAt": state.finished_at,
            **({"message": state.message} if state.message else {}),
            **({"containerID": state.container_id} if state.container_id else {}),
        }
    }


def _conditions(pod: Object, view: PodView, phase: str, now: str) -> list[Object]:
    ready = phase == "Running" and all(isinstance(item.state, Running) for item in view.containers.values())
    initialized = all(
        isinstance(item.state, Terminated) and item.state.exit_code == 0 for item in view.init_containers.values()
    )
    reason = ""
    if phase in ("Succeeded", "Failed"):
        reason = "PodCompleted" if phase == "Succeeded" else "PodFailed"
    elif not ready:
        reason = "ContainersNotReady"
    facts = [
        ("PodReadyToStartContainers", phase not in ("Succeeded", "Failed") and bool(view.pod_ip), ""),
        ("Initialized", initialized or phase == "Succeeded", "" if initialized else "ContainersNotInitialized"),
        ("Ready", ready, reason),
        ("ContainersReady", ready, reason),
    ]
    present = {condition["type"]: condition for condition in pod.get("status", {}).get("conditions") or []}
    return [_condition(name, value, why, present.get(name), now) for name, value, why in facts]


def _condition(name: str, value: bool, reason: str, before: Object | None, now: str) -> Object:
    status = "True" if value else "False"
    since = before["lastTransitionTime"] if before and before.get("status") == status else now
    return {"type": name, "status": status, "lastTransitionTime": since, "reason": reason or None}
