"""The pod statuses that kubelets write, as functions of the pod and of the node's clock. Pure.

Words are those of real kubelets: what an operator quotes to people must survive them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

Object = dict[str, Any]
Clock = Callable[[float], str]
"""The node's own clock: so many seconds from now, as RFC 3339."""
Writer = Callable[[Object, Clock], Object]
"""From a pod and the node's clock to the status that the kubelet patches."""

NO_DEVICES = (
    "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices"
    " nvidia.com/gpu, which is unexpected"
)
UNSIGNED = "image signature cannot be verified: no policy matches registry.example.com/worker:1"
LOW_DISK = "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 2Gi. "


def clock(ahead_seconds: float = 0.0) -> Clock:
    """The clock of a node whose time is ahead of (or, below 0, behind) the API server's."""
    return lambda later: f"{datetime.now(UTC) + timedelta(seconds=ahead_seconds + later):%Y-%m-%dT%H:%M:%SZ}"


def creating(pod: Object, at: Clock) -> Object:
    """Admitted; volumes, network and containers are being made."""
    return _status(pod, at, "Pending", {})


def waiting(reason: str, message: str = "", container: str = "worker") -> Writer:
    """A container (an init container too) cannot be started; those after it wait for it."""
    state = {"waiting": {"reason": reason, "message": message}}
    return lambda pod, at: _status(pod, at, "Pending", {container: state})


def running(pod: Object, at: Clock) -> Object:
    """All containers run; the init containers have ended."""
    return _status(pod, at, "Running", _everywhere(pod, _runs(at)))


def ended(
    code: int, reason: str = "Error", message: str = "", container: str = "worker", *, others_run: bool = False
) -> Writer:
    """A container has ended; the others too, or they keep the pod alive."""

    def write(pod: Object, at: Clock) -> Object:
        others = _runs(at) if others_run else _terminated(at, 0, "Completed", "")
        states = {**_everywhere(pod, others), container: _terminated(at, code, reason, message)}
        over = "Succeeded" if code == 0 else "Failed"
        return _status(pod, at, "Running" if others_run else over, states)

    return write


def out_of_memory(container: str = "worker") -> Writer:
    """A container was killed at its memory limit."""
    return ended(137, "OOMKilled", container=container)


def rejected(reason: str, message: str) -> Writer:
    """The kubelet refused the pod: no container was ever made."""
    return lambda pod, at: {"phase": "Failed", "reason": reason, "message": message, "startTime": at(0)}


def evicted(message: str = LOW_DISK) -> Writer:
    """The kubelet ended the pod, because the node ran out of something."""

    def write(pod: Object, at: Clock) -> Object:
        killed = _status(pod, at, "Failed", _everywhere(pod, _terminated(at, 137, "Error", "")))
        target = _condition("DisruptionTarget", "True", at, "TerminationByKubelet", message)
        return {**killed, "reason": "Evicted", "message": message, "conditions": [*killed["conditions"], target]}

    return write


def _status(pod: Object, at: Clock, phase: str, states: Mapping[str, Object]) -> Object:
    """A status; containers are listed by name as kubelets do, and one without a state is being created."""
    running = "True" if phase == "Running" else "False"
    spec = pod["spec"]
    status = {
        "phase": phase,
        "startTime": at(0),
        "conditions": [_condition(kind, running, at) for kind in ("Ready", "ContainersReady")],
        "containerStatuses": [_container(found, states) for found in sorted(spec["containers"], key=_name)],
    }
    if spec.get("initContainers"):
        status["initContainerStatuses"] = [_container(found, states) for found in spec["initContainers"]]
    return status


def _container(container: Object, states: Mapping[str, Object]) -> Object:
    state = states.get(_name(container), {"waiting": {"reason": "ContainerCreating"}})
    shown = {"name": _name(container), "image": container["image"], "imageID": "", "restartCount": 0}
    return {**shown, "ready": "running" in state, "state": state}


def _everywhere(pod: Object, state: Object) -> dict[str, Object]:
    """All containers in one state, the init containers behind them."""
    done = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    inits = {_name(container): done for container in pod["spec"].get("initContainers") or []}
    return inits | {_name(container): state for container in pod["spec"]["containers"]}


def _name(container: Object) -> str:
    return str(container["name"])


def _runs(at: Clock) -> Object:
    return {"running": {"startedAt": at(0)}}


def _terminated(at: Clock, code: int, reason: str, message: str) -> Object:
    times = {"startedAt": at(-2), "finishedAt": at(0)}
    return {"terminated": {"exitCode": code, "reason": reason, "message": message, **times}}


def _condition(kind: str, status: str, at: Clock, reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at(0)}
