"""Whose a cached object is, and what its labels and name say. Pure reading."""

from collections.abc import Callable, Mapping
from typing import Any

from evalfleet.controller.cache import Cache
from evalfleet.kube.resources import Key
from evalfleet.manifests.names import DEFAULT_POLICY, LABEL_ROLE, LABEL_RUN, LABEL_SLOT, Identity
from evalfleet.reconcile.conditions import status_of
from evalfleet.reconcile.ownership import controller_of

Object = Mapping[str, Any]
BY_UID, OPEN = "EvaluationJob by uid", "EvaluationJob that has not ended"
"""Names of indices; those of children are named by their kind."""
MOST_DIGITS = 9
"""Of a slot, an attempt or a generation that we have given."""


def uid_of(body: Object) -> str:
    """Its uid."""
    return str(body["metadata"]["uid"])


def identity_of(body: Object) -> Identity:
    """What the children of an EvaluationJob are called by."""
    metadata = body["metadata"]
    return Identity(str(metadata.get("namespace") or ""), str(metadata["name"]), uid_of(body))


def labels_of(body: Object) -> Mapping[str, str]:
    """Its labels, which whoever created it has chosen."""
    return body["metadata"].get("labels") or {}


def owner_of(body: Object) -> str:
    """Uid of the controlling owner."""
    return str(controller_of(body).get("uid") or "")


def run_of(body: Object) -> str:
    """The run that its label names."""
    return labels_of(body).get(LABEL_RUN, "")


def role_of(body: Object) -> str:
    """The role that its label names: plan, work or finish."""
    return labels_of(body).get(LABEL_ROLE, "")


def number_of(job: Object) -> str:
    """What its name ends with: attempt or generation."""
    return str(job["metadata"]["name"]).rsplit("-", 1)[-1]


def attempt_of(job: Object) -> int:
    """Which attempt of its step a plan or finish Job is; the first plan has no number."""
    return int(number_of(job)) if is_number(number_of(job)) else 1


def is_number(text: str) -> bool:
    """Whether a text is a number that we could have given."""
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


def is_worker(job: Object) -> bool:
    """Whether a Job under our ownership is a worker of ours: whoever may create Jobs may name us as their owner."""
    return role_of(job) == "work" and is_number(labels_of(job).get(LABEL_SLOT, "")) and is_number(number_of(job))


def policy_name(job: Object) -> str:
    """Name of the policy that an EvaluationJob uses."""
    return str((job.get("spec") or {}).get("policyName") or DEFAULT_POLICY)


def policy_key(job: Object) -> Key:
    """The policy that an EvaluationJob uses; the namespace's implicit one has the same key."""
    return Key("ScalingPolicy", str(job["metadata"]["namespace"]), policy_name(job))


def evaluation_job(cache: Cache, namespace: str, uid: str) -> Object | None:
    """The EvaluationJob with a uid, None when it is gone."""
    return next(cache.indexed(BY_UID, namespace, uid), None)


def has_ended(job: Object) -> bool:
    """Whether an EvaluationJob has succeeded or failed for good."""
    return status_of((job.get("status") or {}).get("conditions") or [], "Succeeded") in ("True", "False")


def _open_under(job: Object) -> str:
    return "" if has_ended(job) else policy_name(job)


INDICES: Mapping[str, tuple[str, Callable[[Object], str]]] = {
    BY_UID: ("EvaluationJob", uid_of),
    OPEN: ("EvaluationJob", _open_under),
    "Job": ("Job", owner_of),
    "Pod": ("Pod", run_of),
}
"""Children by the uid of their EvaluationJob, EvaluationJobs by theirs, those that have not ended by their policy."""
