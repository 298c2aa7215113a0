"""Builders of the states that reconciliation looks at, and of the objects an API server shows."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.controller.settings import Settings
from evalfleet.manifests.names import Identity
from evalfleet.reconcile.children import MISSING, Child, Phase
from evalfleet.reconcile.job.pods import proposed
from evalfleet.reconcile.job.state import Admission, JobState, WorkerView
from evalfleet.reconcile.liveness import Gone, is_disrupted
from evalfleet_worker.protocol import Progress

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
API = {"apiVersion": "evalfleet.io/v1alpha1"}
PLAN_REPORT = {
    "runId": "uid-1",
    "requests": 100,
    "tokens": 5000,
    "cachedRequests": 0,
    "units": 10,
    "predictedSeconds": 100.0,
    "flops": 1e12,
    "memoryBytes": 1,
    "modelDigest": "d",
    "requestsDigest": "r",
    "samples": 25,
}


def manifest(**spec: Any) -> dict[str, Any]:
    """A valid EvaluationJob with changes of its spec; None removes a member."""
    content: dict[str, Any] = {
        "model": {"uri": "hf://org/model"},
        "evaluations": [{"name": "e", "lmEval": {"task": "hellaswag"}}],
        "store": {"uri": "s3://bucket/runs"},
        **spec,
    }
    kept = {key: value for key, value in content.items() if value is not None}
    return {**API, "kind": "EvaluationJob", "metadata": {"name": "job", "namespace": "ns"}, "spec": kept}


def pool(name: str, capacity_type: str = "Spot", **fields: Any) -> dict[str, Any]:
    """A node pool of a policy."""
    price = {"Spot": "1.00"}.get(capacity_type, "3.00")
    selector = {"pool": name}
    return {
        "name": name,
        "capacityType": capacity_type,
        "nodeSelector": selector,
        "pricePerHour": price,
        "maxWorkers": 4,
        **fields,
    }


def policy_manifest(*pools: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A valid ScalingPolicy."""
    content = {"pools": list(pools) or [pool("spot"), pool("steady", "OnDemand")], **spec}
    return {**API, "kind": "ScalingPolicy", "metadata": {"name": "default", "namespace": "ns"}, "spec": content}


def policy(*pools: dict[str, Any], **spec: Any) -> ScalingPolicy:
    """A parsed ScalingPolicy."""
    return ScalingPolicy.model_validate(policy_manifest(*pools, **spec))


def job_state(changes: dict[str, Any] | None = None, **spec: Any) -> JobState:
    """The state of a new job with changes of its spec; `changes` are of the state itself.

    One that has begun has a frozen run: as its policy and settings are now, unless `run` says otherwise.
    """
    plain = JobState(
        now=NOW,
        job=EvaluationJob.model_validate(manifest(**spec)),
        problem="",
        identity=Identity("ns", "job", "uid-1"),
        generation=1,
        created=NOW - timedelta(minutes=1),
        deleting=False,
        status={},
        policy=None,
        policy_missing=False,
        plan=MISSING,
        finish=MISSING,
        finish_attempt=0,
        workers=(),
        admission=None,
        site=Settings().site,
    )
    made = replace(plain, **(changes or {}))
    begun = {"status", "plan", "finish", "workers"} & set(changes or {})
    return made if not begun or made.job is None or "run" in (changes or {}) else replace(made, run=proposed(made))


def condition(kind: str, status: str = "True") -> dict[str, str]:
    """A condition as the API server shows it."""
    return {"type": kind, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}


def planned(**changes: Any) -> dict[str, Any]:
    """JobState members of a job with a plan of ten units that the Fleet has admitted."""
    status = {"conditions": [condition("Planned")], "plan": {"units": 10, "requests": 100, "gpuSeconds": 100}}
    return {"status": status, "admission": Admission(True, 2, "Admitted", "2 workers"), **changes}


def child(phase: Phase, **fields: Any) -> Child:
    """A one-pod Job in a phase."""
    pod = fields.get("pod")
    gone = Gone("Reclaimed", "taken away") if pod is not None and is_disrupted(pod) else None
    return Child(**{"name": "child", "phase": phase, "gone": gone, **fields})


def reported(content: dict[str, Any], **changes: Any) -> Child:
    """A Job that has succeeded with a report."""
    return child(Phase.SUCCEEDED, termination=json.dumps({**content, **changes}))


OF_THE_CHILD = ("reason", "message", "termination", "pod", "preempted", "whose")


def worker(slot: int = 0, phase: Phase = Phase.RUNNING, pool_name: str = "spot", **fields: Any) -> WorkerView:
    """A worker Job."""
    own = {key: fields.pop(key) for key in OF_THE_CHILD if key in fields}
    generation = fields.pop("generation", 1)
    members = {
        "child": child(phase, name=f"job-w{slot}-{generation}", **own),
        "pool": pool_name,
        "slot": slot,
        "generation": generation,
        "capacity_type": "Spot",
        "price_per_hour": "1.00",
        "created": NOW,
    }
    return WorkerView(**{**members, **fields})


def disrupted_pod() -> dict[str, Any]:
    """A pod that is being taken away."""
    return {"metadata": {"name": "p", "uid": "p"}, "status": {"conditions": [condition("DisruptionTarget")]}}


def progress(done: int, rate: float = 10.0, requests: int | None = None) -> Progress:
    """What a worker answers about a run of ten units and a hundred requests."""
    return Progress("uid-1", "w", "Scoring", 10, done, 100, done * 10 if requests is None else requests, rate, 0.0)
