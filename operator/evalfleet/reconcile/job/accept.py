"""Step 1: is the object acceptable? References, keys to foreign code, places that this cluster can reach."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from evalfleet import limits
from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.reconcile.conditions import false, true
from evalfleet.reconcile.job.deadline import deadline_of
from evalfleet.reconcile.job.keys import forbidden, security
from evalfleet.reconcile.job.state import JobState, live_cpu_jobs
from evalfleet.reconcile.job.terminal import failed, held, stamp, waiting
from evalfleet.reconcile.steps import Step

DATA_SCHEMES = ("s3://", "gs://", "az://", "pvc://", "file://")
LOCAL_SCHEMES = ("file://", "package://")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an object is not accepted."""

    reason: str
    message: str
    final: bool = True
    """Whether nothing outside the object can mend it."""


Check = Callable[[JobState, EvaluationJob], Refusal | None]


def accept(state: JobState) -> Step:
    """State Accepted; the first refusal wins. A run that has begun needs its policy and its keys, nothing else."""
    if state.job is None or state.run_problem:
        unreadable = f"this version cannot read it, and leaves alone what runs: {state.problem or state.run_problem}"
        return _refused(state, Refusal("NotSupported", unreadable, final=False))
    if state.away is not None:
        return _without_policy(state, *state.away)
    lost = taken_back(state)
    if lost is not None:
        return replace(_refused(state, lost), actions=live_cpu_jobs(state))
    for check in CHECKS if state.run is None else ():
        refusal = check(state, state.job)
        if refusal is not None:
            return _refused(state, refusal)
    start = state.status.get("startTime") or stamp(state.now)
    message = "the object and its references are in order"
    return Step(
        conditions=(true("Accepted", "Accepted", message), *waiting("Accepted", "accepted; planning comes next")),
        status={"startTime": start, **_deadline(state), **_policy_is_back(state)},
    )


def taken_back(state: JobState) -> Refusal | None:
    """The key that the policy does not give any more to a run that has begun: what runs of it ends."""
    if state.job is None or state.run is None or state.away is not None:
        return None
    return next((refusal for check in KEYS if (refusal := check(state, state.job)) is not None), None)


def _policy_is_back(state: JobState) -> dict[str, object]:
    return {"policyGoneTime": None} if state.status.get("policyGoneTime") else {}


def _without_policy(state: JobState, reason: str, message: str) -> Step:
    """What runs goes on and is looked at; nothing new begins."""
    since = state.status.get("policyGoneTime") or stamp(state.now)
    return Step(
        conditions=(false("Accepted", reason, message), *waiting(reason, message)),
        status={"policyGoneTime": since} if state.policy_gone else _policy_is_back(state),
        requeue_seconds=limits.REFERENCE_SECONDS,
    )


def _deadline(state: JobState) -> dict[str, object]:
    """The deadline however it was declared; an edit that removes it removes it here too. It moves while suspended."""
    deadline = deadline_of(state)
    if deadline is None:
        return {"deadlineTime": None} if state.status.get("deadlineTime") else {}
    if state.job is None or state.job.spec.suspend:
        return {}
    return {"deadlineTime": stamp(deadline)}


def store_uri(state: JobState) -> str | None:
    """The run store of the job: its own, else the policy's."""
    if state.job is not None and state.job.spec.store is not None:
        return state.job.spec.store.uri
    if state.policy is not None and state.policy.spec.store is not None:
        return state.policy.spec.store.uri
    return None


def _refused(state: JobState, refusal: Refusal) -> Step:
    accepted = false("Accepted", refusal.reason, refusal.message)
    if refusal.final:
        ended = failed(refusal.reason, refusal.message, state)
        return Step((accepted, *ended.conditions), ended.status, halt=True)
    return Step(
        conditions=(accepted, *held(refusal.reason, refusal.message)),
        halt=True,
        requeue_seconds=limits.REFERENCE_SECONDS,
    )


def _policy_exists(state: JobState, job: EvaluationJob) -> Refusal | None:
    if not state.policy_missing:
        return None
    message = (
        f"ScalingPolicy {job.spec.policy_name!r} does not exist in namespace {state.identity.namespace}: create it"
    )
    return Refusal("PolicyNotFound", message, final=False)


def _policy_is_readable(state: JobState, job: EvaluationJob) -> Refusal | None:
    if not state.policy_problem:
        return None
    name = job.spec.policy_name or "default"
    return Refusal("PolicyInvalid", f"ScalingPolicy {name!r} cannot be read: {state.policy_problem}", final=False)


def _has_store(state: JobState, job: EvaluationJob) -> Refusal | None:
    if store_uri(state) is not None:
        return None
    return Refusal(
        "StoreMissing", "no run store: set spec.store.uri here, or spec.store in the ScalingPolicy", final=False
    )


def _readable_data(state: JobState, job: EvaluationJob) -> Refusal | None:
    uri = job.spec.data.uri if job.spec.data else None
    if uri is None or uri.startswith(DATA_SCHEMES):
        return None
    message = f"spec.data.uri {uri}: datasets are read from {', '.join(DATA_SCHEMES)}; the hub's are found by name"
    return Refusal("InvalidUri", message)


def _reachable(state: JobState, job: EvaluationJob) -> Refusal | None:
    if state.site.allow_file_uris:
        return None
    places = {
        "spec.model.uri": job.spec.model.uri,
        "spec.model.tokenizerUri": job.spec.model.tokenizer_uri,
        "spec.data.uri": job.spec.data.uri if job.spec.data else None,
        "store": store_uri(state),
    }
    for field, uri in places.items():
        if uri is not None and uri.startswith(LOCAL_SCHEMES):
            message = f"{field} {uri} is a path of one machine: use hf://, s3://, gs://, az:// or pvc:// in a cluster"
            own = field != "store" or job.spec.store is not None  # what the policy names, the policy's owner can mend
            return Refusal("InvalidModelRef" if "model" in field else "InvalidUri", message, final=own)
    return None


def _remote_code(state: JobState, job: EvaluationJob) -> Refusal | None:
    keys = security(state.policy)
    if job.spec.model.trust_remote_code and not keys.allow_remote_code:
        message = "model.trustRemoteCode needs security.allowRemoteCode: true in the ScalingPolicy as well"
        return Refusal("RemoteCodeForbidden", message, final=False)
    if job.spec.confirm_run_unsafe_code and not keys.allow_unsafe_code:
        message = "confirmRunUnsafeCode needs security.allowUnsafeCode: true in the ScalingPolicy as well"
        return Refusal("UnsafeCodeForbidden", message, final=False)
    return None


def _permitted(state: JobState, job: EvaluationJob) -> Refusal | None:
    found = forbidden(job, state.policy)
    return None if found is None else Refusal(found.reason, found.message, final=False)


def _supported(state: JobState, job: EvaluationJob) -> Refusal | None:
    """What the API has and this version does not honour yet is refused, never silently ignored."""
    used = [name for name, is_used in _unsupported(state, job).items() if is_used]
    if not used:
        return None
    return Refusal("NotSupported", f"not honoured by this version yet: {', '.join(used)}; remove it", final=False)


def _unsupported(state: JobState, job: EvaluationJob) -> dict[str, bool]:
    policy = state.policy.spec if state.policy is not None else None
    return {"queueName of the policy": policy is not None and policy.queue_name is not None}


KEYS: tuple[Check, ...] = (_remote_code, _permitted)
"""What a policy can take back from a run: keys are frozen downwards only."""
CHECKS: tuple[Check, ...] = (
    _policy_exists,
    _policy_is_readable,
    _supported,
    _has_store,
    _readable_data,
    _reachable,
    *KEYS,
)
