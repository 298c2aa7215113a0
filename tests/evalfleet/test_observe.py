"""From cached objects to worlds: what is read again, what is remembered, what is forgotten."""

from typing import Any

from operator_worlds import NOW, condition, manifest, policy_manifest

from evalfleet.cache import Cache, Key
from evalfleet.observe import Memory, Observer
from evalfleet.reconcile.evaluationjob.world import FleetVerdict
from evalfleet.settings import Settings

POLICY = Key("ScalingPolicy", "ns", "default")


def stored(name: str, generation: int = 1, version: int = 1, **spec: Any) -> dict[str, Any]:
    body = manifest(**spec)
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return {**body, "metadata": {**metadata, "generation": generation, "resourceVersion": str(version)}}


def observer(*bodies: dict[str, Any]) -> Observer:
    cache = Cache()
    for body in bodies:
        cache.put(str(body["kind"]), body)
    return Observer(cache, Memory(), Settings())


def ended(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "status": {"conditions": [condition("Succeeded")]}}


def test_an_edit_is_read_and_the_same_generation_is_parsed_once() -> None:
    seen = observer(stored("a", maxWorkers=1))
    key = Key("EvaluationJob", "ns", "a")
    first = seen.job_world(key, NOW)
    again = seen.job_world(key, NOW)
    assert first is not None
    assert again is not None
    assert first.job is again.job
    seen.cache.put("EvaluationJob", stored("a", generation=2, version=2, maxWorkers=3))
    edited = seen.job_world(key, NOW)
    assert edited is not None
    assert edited.job is not None
    assert edited.job.spec.max_workers == 3


def test_an_object_of_the_same_name_that_was_created_anew_is_parsed_anew() -> None:
    seen = observer(stored("a", maxWorkers=1))
    seen.job_world(Key("EvaluationJob", "ns", "a"), NOW)
    seen.cache.remove("EvaluationJob", stored("a"))
    reborn = stored("a", version=5, maxWorkers=7)
    reborn["metadata"]["uid"] = "uid-other"
    seen.cache.put("EvaluationJob", reborn)
    found = seen.job_world(Key("EvaluationJob", "ns", "a"), NOW)
    assert found is not None
    assert found.job is not None
    assert found.job.spec.max_workers == 7


def test_the_worlds_of_a_policy_are_its_own_jobs_without_those_that_ended_and_left_nothing() -> None:
    seen = observer(stored("mine"), stored("other", policyName="other"), ended(stored("over")))
    assert set(seen.policy_worlds(POLICY, NOW)) == {"uid-mine"}
    assert seen.runs("ns") == {"uid-mine", "uid-other", "uid-over"}


def test_an_ended_job_whose_worker_still_exists_stays_in_the_picture() -> None:
    labels = {"app.kubernetes.io/managed-by": "evalfleet", "evalfleet.io/role": "work", "evalfleet.io/run": "uid-over"}
    metadata = {"name": "over-w0-1-x", "namespace": "ns", "uid": "pod", "labels": labels, "resourceVersion": "3"}
    seen = observer(ended(stored("over")), {"kind": "Pod", "metadata": metadata, "status": {"phase": "Running"}})
    assert set(seen.policy_worlds(POLICY, NOW)) == {"uid-over"}


def test_a_policy_that_cannot_be_read_is_said_and_not_replaced_by_the_defaults() -> None:
    broken = policy_manifest(strategy="Magic")
    broken["metadata"] |= {"uid": "p", "generation": 1, "resourceVersion": "2"}
    world = observer(stored("a"), broken).job_world(Key("EvaluationJob", "ns", "a"), NOW)
    assert world is not None
    assert world.policy is None
    assert "strategy" in world.policy_problem


def test_what_is_remembered_of_a_job_goes_with_it() -> None:
    seen = observer(stored("a"), stored("b"))
    for name in "ab":
        seen.job_world(Key("EvaluationJob", "ns", name), NOW)
        seen.memory.verdicts[f"uid-{name}"] = FleetVerdict(True, 1, "Running", "1 spot worker")
        seen.memory.generations[f"uid-{name}", 0] = 4
    seen.cache.remove("EvaluationJob", stored("b"))
    seen.forget_others()
    assert set(seen.memory.verdicts) == set(seen.specs) == {"uid-a"}
    assert seen.memory.generations == {("uid-a", 0): 4}
