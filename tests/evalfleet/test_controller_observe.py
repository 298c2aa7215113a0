"""From cached objects to states: what is read again, what is remembered, what is forgotten."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from operator_states import NOW, condition, manifest, policy_manifest

from evalfleet.controller.cache import Cache
from evalfleet.controller.memory import Memory
from evalfleet.controller.objects import INDICES
from evalfleet.controller.observe import Observer
from evalfleet.controller.settings import Settings
from evalfleet.kube.resources import Key
from evalfleet.kube.runs import RunBook
from evalfleet.reconcile.job.counts import count_preemptions
from evalfleet.reconcile.job.state import JobState

POLICY = Key("ScalingPolicy", "ns", "default")


def stored(name: str, generation: int = 1, version: int = 1, **spec: Any) -> dict[str, Any]:
    body = manifest(**spec)
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**body, "metadata": {**metadata, "generation": generation, "resourceVersion": str(version)}}


def observer(*bodies: dict[str, Any]) -> Observer:
    memory = Memory()
    cache = Cache(INDICES, memory.note)
    for body in bodies:
        cache.put(str(body["kind"]), body)
    return Observer(cache, memory, Settings().site, RunBook(None))  # type: ignore[arg-type]


def ended(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "status": {"conditions": [condition("Succeeded")]}}


def test_the_ledger_keeps_all_runs_until_they_fill_it_and_then_those_that_are_not_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def done(name: str, at: str, **status: Any) -> dict[str, Any]:
        body = ended(stored(name))
        return {**body, "status": {**body["status"], "completionTime": at, **status}}

    cost = {"cost": {"spent": "1.0000"}}
    old, new = done("old", "2026-01-01T00:00:00Z", **cost), done("new", "2026-01-02T00:00:00Z", **cost)
    untold = done("untold", "2025-01-01T00:00:00Z")
    seen = observer(old, new, untold, stored("runs"))
    assert seen.runs("ns") == {"uid-old", "uid-new", "uid-untold", "uid-runs"}
    monkeypatch.setattr("evalfleet.limits.LEDGER_RUNS", 3)
    assert seen.runs("ns") == {"uid-new", "uid-untold", "uid-runs"}
    monkeypatch.setattr("evalfleet.limits.LEDGER_RUNS", 1)
    assert seen.runs("ns") == {"uid-untold", "uid-runs"}


@pytest.mark.parametrize("finished", [0, 1000])
def test_a_tick_looks_at_what_is_active_and_not_at_what_has_ended(finished: int) -> None:
    bodies = [ended(stored(f"done-{number}")) for number in range(finished)]
    elsewhere = [{**body, "metadata": {**body["metadata"], "namespace": "other"}} for body in bodies]
    seen = observer(
        *bodies, *elsewhere, stored("active"), ended(stored("last")), child("Job", "w", "uid-last", "uid-last")
    )
    seen.runs("ns")
    before = seen.cache.visited
    for _ in range(10):
        states = seen.job_states(seen.active_jobs(POLICY, unpaid=["uid-done-1"]), NOW)
        assert set(states) == {"uid-active", "uid-last"}
        seen.paid_pods("ns", states, None, ())
        assert len(seen.runs("ns")) == finished + 2
    assert seen.cache.visited - before <= 10 * 12
    seen.cache.put("EvaluationJob", stored("new"))
    assert "uid-new" in seen.runs("ns")


def test_observing_writes_nothing() -> None:
    taken = {"phase": "Failed", "conditions": [condition("DisruptionTarget")]}
    worker, pod = child("Job", "a-w0-1", "uid-a", "uid-a"), child("Pod", "one", "Job-a-w0-1", "uid-a", **taken)
    seen = observer(stored("a"), ended(stored("over")), worker, pod)
    before, kept = deepcopy(seen.memory), list(seen.cache.of_kind("EvaluationJob"))
    for name in ("a", "over"):
        seen.job_state(Key("EvaluationJob", "ns", name), NOW)
    seen.job_states(seen.active_jobs(POLICY), NOW)
    seen.paid_pods("ns", {"uid-a"}, None, set())
    assert replace(seen.memory, lost_nodes=before.lost_nodes) == before
    assert list(seen.cache.of_kind("EvaluationJob")) == kept


def test_an_edit_is_read_and_the_same_generation_is_parsed_once() -> None:
    seen = observer(stored("a", maxWorkers=1))
    key = Key("EvaluationJob", "ns", "a")
    first = seen.job_state(key, NOW)
    again = seen.job_state(key, NOW)
    assert first is not None
    assert again is not None
    assert first.job is again.job
    seen.cache.put("EvaluationJob", stored("a", generation=2, version=2, maxWorkers=3))
    edited = seen.job_state(key, NOW)
    assert edited is not None
    assert edited.job is not None
    assert edited.job.spec.max_workers == 3


def test_an_object_of_the_same_name_that_was_created_anew_is_parsed_anew() -> None:
    seen = observer(stored("a", maxWorkers=1))
    seen.job_state(Key("EvaluationJob", "ns", "a"), NOW)
    seen.cache.remove("EvaluationJob", stored("a"))
    reborn = stored("a", version=5, maxWorkers=7)
    reborn["metadata"]["uid"] = "uid-other"
    seen.cache.put("EvaluationJob", reborn)
    found = seen.job_state(Key("EvaluationJob", "ns", "a"), NOW)
    assert found is not None
    assert found.job is not None
    assert found.job.spec.max_workers == 7


def test_the_worlds_of_a_policy_are_its_own_jobs_without_those_that_ended_and_left_nothing() -> None:
    seen = observer(stored("mine"), stored("other", policyName="other"), ended(stored("over")))
    assert set(seen.job_states(seen.active_jobs(POLICY), NOW)) == {"uid-mine"}
    assert seen.runs("ns") == {"uid-mine", "uid-other", "uid-over"}


def test_an_ended_job_whose_worker_still_exists_stays_in_the_picture() -> None:
    labels = {"app.kubernetes.io/managed-by": "evalfleet", "evalfleet.io/role": "work", "evalfleet.io/run": "uid-over"}
    metadata = {"name": "over-w0-1-x", "namespace": "ns", "uid": "pod", "labels": labels, "resourceVersion": "3"}
    seen = observer(ended(stored("over")), {"kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}})
    assert set(seen.job_states(seen.active_jobs(POLICY), NOW)) == {"uid-over"}


def test_a_policy_that_cannot_be_read_is_said_and_not_replaced_by_the_defaults() -> None:
    broken = policy_manifest(strategy="Magic")
    broken["metadata"] |= {"uid": "p", "generation": 1, "resourceVersion": "2"}
    state = observer(stored("a"), broken).job_state(Key("EvaluationJob", "ns", "a"), NOW)
    assert state is not None
    assert state.policy is None
    assert "strategy" in state.policy_problem


def child(kind: str, name: str, owner: str, run: str, slot: str = "0", **status: Any) -> dict[str, Any]:
    """A worker Job or pod that names a controlling owner."""
    labels = {"evalfleet.io/role": "work", "evalfleet.io/run": run, "evalfleet.io/slot": slot}
    reference = {"kind": "x", "name": "x", "uid": owner, "controller": True}
    metadata = {"name": name, "namespace": "ns", "uid": f"{kind}-{name}", "labels": labels, "resourceVersion": "3"}
    metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [reference]}
    return {"kind": kind, "metadata": metadata, "spec": {"containers": []}, "status": status}


def state_of(seen: Observer, name: str = "a") -> JobState:
    state = seen.job_state(Key("EvaluationJob", "ns", name), NOW)
    assert state is not None
    return state


def test_jobs_with_our_labels_are_workers_only_of_their_owner_and_only_with_a_name_that_we_give() -> None:
    real = child("Job", "a-w0-1", "uid-a", "uid-a")
    forged = [
        child("Job", "a-w1-1", "somebody else", "uid-a"),
        child("Job", "a-w1-x", "uid-a", "uid-a"),
        child("Job", "a-w2-1", "uid-a", "uid-a", slot="first"),
        child("Job", "a-w3-1", "uid-a", "uid-a", slot="9" * 60),
    ]
    assert [w.child.name for w in state_of(observer(stored("a"), real, *forged)).workers] == ["a-w0-1"]


def test_a_pod_taken_away_counts_once_over_restarts_and_one_of_a_stranger_never() -> None:
    taken = {"phase": "Failed", "conditions": [condition("DisruptionTarget")]}
    worker, pod = child("Job", "a-w0-1", "uid-a", "uid-a"), child("Pod", "one", "Job-a-w0-1", "uid-a", **taken)
    stranger = child("Pod", "two", "somebody else", "uid-a", **taken)

    def count(seen: Observer, **workers: Any) -> tuple[int, list[str]]:
        seen.cache.put("EvaluationJob", {**stored("a", version=9), "status": {"workers": workers}})
        return count_preemptions(state_of(seen))

    seen = observer(stored("a"), worker, pod, stranger)
    total, counted = count(seen)
    assert (total, len(counted)) == (1, 1)
    restarted = observer(worker, pod)
    assert count(restarted, preemptions=7, preempted=counted) == (7, counted)
    assert count(observer(worker, pod), preemptions=7) == (8, counted)
    restarted = observer(worker, pod)
    count(restarted, preemptions=1, preempted=counted)
    restarted.cache.remove("Pod", pod)
    assert count_preemptions(state_of(restarted)) == (1, [])


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00+99:99", ""])
def test_a_moment_of_the_status_that_cannot_be_is_the_creation(moment: str) -> None:
    conditions = [{**condition("Suspended"), "lastTransitionTime": moment}, condition("Planned")]
    status = {"conditions": conditions, "startTime": moment, "completionTime": moment, "plan": {"units": 3}}
    state = state_of(observer({**stored("a"), "status": status}))
    created = "2026-01-01T00:00:00Z"
    assert [c["lastTransitionTime"] for c in state.status["conditions"]] == [created, created]
    assert (state.status["startTime"] or created, state.status["completionTime"] or created) == (created, created)
    assert state.status["plan"] == {"units": 3}
