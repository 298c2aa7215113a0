"""A run is frozen: what decides its pods is written once, and what follows when its policy changes or goes."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from operator_states import (
    NOW,
    PLAN_REPORT,
    child,
    condition,
    job_state,
    planned,
    policy,
    policy_manifest,
    pool,
    reported,
    worker,
)

from evalfleet import limits
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.manifests.frozen import RUN, FrozenUnreadableError, frozen_run, run_config_map
from evalfleet.manifests.images import is_pinned, pinned_image
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.decision import Create, Decision, Delete
from evalfleet.reconcile.job.decide import decide
from evalfleet.reconcile.job.pods import pod_shape, proposed
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.jobs import takes_part
from evalfleet_worker.protocol import PROTOCOL_VERSION

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
WORKER = {
    "image": "ghcr.io/acme/worker:1",
    "resources": {"cpu": "2", "memory": "8Gi"},
    "env": [{"name": "HF_HOME", "value": "/x"}],
    "tolerations": [{"key": "gpu"}],
    "nodeSelector": {"a": "b"},
    "imagePullSecrets": ["pull"],
}
BEFORE = policy(worker=WORKER, store={"uri": "s3://before/runs", "secretName": "before"})
AFTER = policy(
    worker={"image": "ghcr.io/acme/worker:2", "resources": {"cpu": "1"}},
    store={"uri": "pvc://after/runs", "secretName": "after"},
    strategy="UniformProgress",
)


def begun(changes: dict[str, Any] | None = None, **spec: Any) -> JobState:
    """A planned job that began under BEFORE."""
    frozen = proposed(job_state({"policy": BEFORE, "policy_uid": "one"}, store=None, **spec))
    state = {"policy": BEFORE, "policy_uid": "one", "run": frozen, **planned(), **(changes or {})}
    return job_state(state, store=None, **spec)


def said(step: Decision, kind: str) -> tuple[str, str, str]:
    found = next(c for c in step.conditions if c.type == kind)
    return found.status, found.reason, found.message


def test_what_is_frozen_is_read_back_as_it_was() -> None:
    state = begun()
    assert state.run is not None
    body = run_config_map(state.identity, state.run)
    assert body["immutable"]
    again = frozen_run(body)
    assert again is not None
    assert run_config_map(state.identity, again) == body
    assert replace(again, shape=state.run.shape) == state.run
    assert pod_shape(replace(state, run=again)).secrets == ("before",)


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"tomorrow": True}, {"worker": {"tomorrow": 1}}, {"secrets": None}, {"policy": {}}],
    ids=str,
)
def test_a_record_of_another_version_is_left_alone(change: dict[str, Any]) -> None:
    state = begun()
    assert state.run is not None
    body = run_config_map(state.identity, state.run)
    body["data"][RUN] = json.dumps({**json.loads(body["data"][RUN]), **change})
    with pytest.raises(FrozenUnreadableError):
        frozen_run(body)
    step = decide(replace(state, run=None, run_problem="version 2", workers=(worker(),)))
    assert said(step, "Accepted")[:2] == ("False", "NotSupported")
    assert (step.actions, any(c.type == "Failed" for c in step.conditions)) == ((), False)


def test_a_configmap_that_froze_nothing_is_no_word_about_the_run() -> None:
    assert frozen_run({"metadata": {"name": "x"}, "data": {"spec.json": "{}"}}) is None


def test_pods_of_a_run_follow_what_it_began_with_and_the_job_says_so() -> None:
    state = begun({"policy": AFTER})
    shape = pod_shape(state)
    assert (shape.image, shape.secrets, shape.claims) == ("ghcr.io/acme/worker:1", ("before",), ())
    status, reason, message = said(decide(state), "RunOutdated")
    assert (status, reason) == ("True", "Outdated")
    for part in ("the store", "the worker image", "pod settings", "Secrets", "claims"):
        assert part in message
    assert not any(c.type == "RunOutdated" for c in decide(begun()).conditions)


def test_a_run_is_frozen_before_anything_is_made_of_it_and_only_once() -> None:
    first = decide(job_state({"policy": BEFORE, "policy_uid": "one"}, store=None))
    kinds = [action.body["kind"] for action in first.actions if isinstance(action, Create)]
    assert kinds == ["ConfigMap", "Job"]
    later = decide(begun({"status": {}}))
    assert [action.body["kind"] for action in later.actions if isinstance(action, Create)] == ["Job"]


def test_a_run_whose_policy_is_gone_goes_on_for_its_grace_and_never_by_defaults() -> None:
    gone = {"policy": None, "policy_uid": "", "workers": (worker(),)}
    state = begun(gone)
    step = decide(state)
    assert said(step, "Accepted")[:2] == ("False", "PolicyNotFound")
    assert said(step, "Ready")[1] == "PolicyNotFound"
    assert said(step, "WorkersReady")[0] == "True"
    assert (step.actions, takes_part(state), state.left_alone) == ((), False, True)
    since = (NOW - limits.POLICY_GRACE - timedelta(seconds=1)).isoformat()
    refused = {**condition("Accepted", "False"), "reason": "PolicyNotFound"}
    status = {**planned()["status"], "conditions": [condition("Planned"), refused], "policyGoneTime": since}
    over = begun({**gone, "status": status})
    assert (over.left_alone, takes_part(over)) == (False, False)
    assert "were stopped" in said(decide(over), "Accepted")[2]


def test_without_its_policy_nothing_is_planned_but_what_is_scored_is_finished() -> None:
    gone = {"policy": None, "policy_uid": ""}
    assert decide(begun({**gone, "status": {}})).actions == ()
    scored = decide(begun({**gone, "workers": (worker(phase=Phase.SUCCEEDED),)}))
    (action,) = scored.actions
    assert isinstance(action, Create)
    assert action.body["metadata"]["name"] == "job-finish-1"


def test_a_job_that_began_by_built_in_defaults_needs_no_policy() -> None:
    state = job_state({**planned(), "policy": None})
    assert state.run is not None
    assert (state.policy_gone, state.left_alone) == (False, False)


def test_keys_that_are_taken_back_end_what_runs() -> None:
    keys = ScalingPolicy.model_validate(policy_manifest(security={"allowUnsafeCode": True}, store={"uri": "s3://b"}))
    without = ScalingPolicy.model_validate(policy_manifest(store={"uri": "s3://b"}))
    state = job_state({**planned(), "policy": keys, "policy_uid": "one"}, confirmRunUnsafeCode=True)
    assert said(decide(state), "Accepted")[0] == "True"
    taken = decide(replace(state, policy=without))
    assert said(taken, "Accepted")[:2] == ("False", "UnsafeCodeForbidden")
    assert not replace(state, policy=without).left_alone


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_suspending_ends_plan_and_finish_pods(phase: Phase) -> None:
    state = begun({"plan": child(phase, name="job-plan"), "finish": child(phase, name="job-finish-1")}, suspend=True)
    assert [a.name for a in decide(state).actions if isinstance(a, Delete)] == ["job-plan", "job-finish-1"]


@pytest.mark.parametrize(
    ("image", "image_id", "pinned"),
    [
        ("ghcr.io/acme/worker:1", f"ghcr.io/acme/worker@{DIGEST}", f"ghcr.io/acme/worker:1@{DIGEST}"),
        ("acme/worker", f"docker-pullable://acme/worker@{DIGEST}", f"acme/worker@{DIGEST}"),
        ("acme/worker:1", f"docker.io/acme/worker@{DIGEST}", f"acme/worker:1@{DIGEST}"),
        ("python:3", f"docker.io/library/python@{DIGEST}", f"python:3@{DIGEST}"),
        ("localhost:5000/w", f"localhost:5000/w@{DIGEST}", f"localhost:5000/w@{DIGEST}"),
        ("acme/worker:1", f"mirror.local/acme/worker@{DIGEST}", None),
        ("acme/worker:1", DIGEST, None),
        ("acme/worker:1", "host:///usr/bin/python", None),
        ("acme/worker:1", "", None),
        (f"acme/worker@{OTHER}", f"acme/worker@{DIGEST}", None),
    ],
)
def test_the_image_is_pinned_where_its_registry_knows_the_digest(image: str, image_id: str, pinned: str | None) -> None:
    assert pinned_image(image, image_id) == pinned
    assert pinned is None or is_pinned(image, pinned)


def test_pods_after_the_plan_use_its_digest_where_the_architecture_is_the_same() -> None:
    pod = {"status": {"containerStatuses": [{"name": "worker", "imageID": f"ghcr.io/acme/worker@{DIGEST}"}]}}
    step = decide(begun({"status": {}, "plan": replace(reported(PLAN_REPORT), pod=pod)}))
    assert step.status["plan"]["image"] == f"ghcr.io/acme/worker:1@{DIGEST}"
    status = {**planned()["status"], "plan": {**planned()["status"]["plan"], **step.status["plan"]}}
    state = begun({"status": status, "policy": AFTER})
    plain, arm = policy(pool("spot")).spec.pools[0], policy(pool("arm", nodeSelector={"kubernetes.io/arch": "arm64"}))
    assert pod_shape(state).image == pod_shape(state, plain).image == f"ghcr.io/acme/worker:1@{DIGEST}"
    assert pod_shape(state, arm.spec.pools[0]).image == "ghcr.io/acme/worker:1"
    forged = {**status, "plan": {"units": 10, "image": f"evil.com/worker@{DIGEST}"}}
    assert pod_shape(begun({"status": forged})).image == "ghcr.io/acme/worker:1"


def test_a_report_of_another_protocol_version_is_waited_for() -> None:
    newer = reported(PLAN_REPORT, version=PROTOCOL_VERSION + 1)
    step = decide(begun({"status": {}, "plan": newer}))
    assert said(step, "Planned")[:2] == ("Unknown", "ProtocolUnknown")
    assert not any(c.type == "Failed" for c in step.conditions)
