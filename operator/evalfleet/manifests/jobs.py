"""The Jobs of one pod that the operator creates for an EvaluationJob. Pure."""

from dataclasses import dataclass

from evalfleet.api.scalingpolicy import NodePool
from evalfleet.manifests.names import (
    ANNOTATION_PRICE,
    LABEL_CAPACITY_TYPE,
    LABEL_POOL,
    LABEL_ROLE,
    LABEL_RUN,
    LABEL_SLOT,
    MANAGED,
    PROGRESS_PORT,
    Identity,
    Object,
    metadata,
)
from evalfleet.manifests.pod import Command, PodShape, pod_spec
from evalfleet_worker.protocol import ExitCode

CANNOT_START = (126, 127, 128)
"""Exit codes of a program that cannot be executed, is not found, or that the container runtime could not start."""
OWN_FAILURES = 2
"""Failures of a plan or finish program that are tried again: what fails three times fails always."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker belongs: its slot, how often the slot was filled, and the nodes that it keeps away from."""

    slot: int
    generation: int
    avoid: tuple[str, ...] = ()


def plan_job(owner: Identity, shape: PodShape, attempt: int = 1, avoid: tuple[str, ...] = ()) -> Object:
    """The one-pod Job that plans the run on CPU; the first attempt has no number."""
    name = owner.child("plan" if attempt == 1 else f"plan-{attempt}")
    return _job(owner, shape, Command("plan", name, avoid=avoid), backoff_limit=OWN_FAILURES, pool=None)


def finish_job(owner: Identity, shape: PodShape, attempt: int, avoid: tuple[str, ...] = ()) -> Object:
    """The one-pod Job that merges the run's parts and computes its metrics on CPU."""
    command = Command("finish", owner.child(f"finish-{attempt}"), avoid=avoid)
    return _job(owner, shape, command, backoff_limit=OWN_FAILURES, pool=None)


def worker_job(owner: Identity, shape: PodShape, pool: NodePool, place: Place) -> Object:
    """The one-pod Job of one worker: `<name>-w<slot>-<generation>`, pool and price in its metadata."""
    name = owner.child(f"w{place.slot}-{place.generation}")
    command = Command(
        "work",
        name,
        environment={"EVALFLEET_PROGRESS_ADDRESS": f"$(POD_IP):{PROGRESS_PORT}", "EVALFLEET_WORKER": "$(POD_NAME)"},
        labels={LABEL_POOL: pool.name, LABEL_SLOT: str(place.slot), LABEL_CAPACITY_TYPE: pool.capacity_type},
        annotations={ANNOTATION_PRICE: pool.price_per_hour},
        avoid=place.avoid,
    )
    return _job(owner, shape, command, backoff_limit=3, pool=pool)


def _job(owner: Identity, shape: PodShape, command: Command, backoff_limit: int, pool: NodePool | None) -> Object:
    labels = {LABEL_ROLE: command.role, **command.labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(owner, command.name, labels) | {"annotations": dict(command.annotations)},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": backoff_limit,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _failure_rules()},
            "template": {
                "metadata": {
                    "labels": {**MANAGED, LABEL_RUN: owner.uid, **labels},
                    "annotations": {"sidecar.istio.io/inject": "false", **command.annotations},
                },
                "spec": pod_spec(owner, shape, command, pool),
            },
        },
    }


def _failure_rules() -> list[Object]:
    """Reclaims and early leaves never count; what the same pod would do again, there or anywhere, ends the Job at once.

    Only the worker's own exit code says so, whatever other containers somebody has put into the pod.
    """
    ignored = [int(ExitCode.DISRUPTED), int(ExitCode.UNKNOWN_PROTOCOL), int(ExitCode.TERMINATED)]
    hopeless = [int(ExitCode.FATAL), int(ExitCode.UNSUITABLE), int(ExitCode.BROKEN_WORKER), *CANNOT_START]
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": _worker_exits(hopeless)},
        {"action": "Ignore", "onExitCodes": _worker_exits(ignored)},
    ]


def _worker_exits(codes: list[int]) -> Object:
    return {"containerName": "worker", "operator": "In", "values": codes}
