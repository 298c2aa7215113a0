"""Who looks again after which event: edits concern everybody, a status at most its own object."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from operator_states import NOW, manifest, progress

from evalfleet.controller.controller import Controller
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet.kube.serverclock import ServerClock
from evalfleet_scaling.fleet import decide_fleet

Object = dict[str, Any]
POLICY = Key("ScalingPolicy", "ns", "default")
JOBS = [Key("EvaluationJob", "ns", name) for name in ("a", "b")]


def quiet_controller() -> Controller:
    """A controller that knows a policy and its two jobs, nobody waiting."""
    kube = cast("Kube", SimpleNamespace(clock=ServerClock()))
    controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
    controller.router.deliver("ScalingPolicy", "ADDED", stored("default", 1, {"spec": {}}))
    for number, key in enumerate(JOBS, start=2):
        controller.router.deliver("EvaluationJob", "ADDED", stored(key.name, number))
    asyncio.run(waiting(controller))
    return controller


def stored(name: str, version: int, content: Object | None = None, generation: int = 1) -> Object:
    metadata = {"name": name, "namespace": "ns", "uid": f"uid-{name}", "generation": generation}
    return {**(content or manifest()), "metadata": {**metadata, "resourceVersion": str(version)}}


async def waiting(controller: Controller) -> set[Key]:
    """The keys that wait, taken from the queue."""
    keys = set()
    while len(controller.queue):
        key = await controller.queue.get()
        controller.queue.done(key)
        keys.add(key)
    return keys


def woken(controller: Controller, kind: str, body: Object, event: str = "MODIFIED") -> set[Key]:
    controller.router.deliver(kind, event, body)
    return asyncio.run(waiting(controller))


def test_an_edited_policy_concerns_all_its_jobs_and_its_status_concerns_none() -> None:
    controller = quiet_controller()
    status = {"spec": {}, "status": {"jobs": {"running": 2}}}
    assert woken(controller, "ScalingPolicy", stored("default", 9, status)) == set()
    assert woken(controller, "ScalingPolicy", stored("default", 10, status, generation=2)) == {POLICY, *JOBS}


def test_an_edited_or_deleted_job_concerns_its_policy_and_its_status_only_itself() -> None:
    controller = quiet_controller()
    status = {**manifest(), "status": {"progress": {"percent": 3}}}
    assert woken(controller, "EvaluationJob", stored("a", 9, status)) == {JOBS[0]}
    assert woken(controller, "EvaluationJob", stored("a", 9, status)) == set()  # the echo of an own write
    assert woken(controller, "EvaluationJob", stored("a", 10, status, generation=2)) == {POLICY, JOBS[0]}
    leaving = stored("a", 11, status, generation=2)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert woken(controller, "EvaluationJob", leaving) == {POLICY, JOBS[0]}
    assert woken(controller, "EvaluationJob", stored("a", 12, status, generation=2), "DELETED") == {POLICY, JOBS[0]}


def test_a_child_concerns_its_job_and_the_policy_and_nobody_elses() -> None:
    controller = quiet_controller()
    labels = {"evalfleet.io/run": "uid-b"}
    pod = {"metadata": {"name": "b-w0-1-x", "namespace": "ns", "uid": "p", "resourceVersion": "20", "labels": labels}}
    assert woken(controller, "Pod", pod, "ADDED") == {POLICY, JOBS[1]}


def test_what_the_job_controller_refuses_concerns_the_job_once() -> None:
    controller = quiet_controller()
    child = {"metadata": {"name": "a-plan", "namespace": "ns", "uid": "j", "labels": {"evalfleet.io/run": "uid-a"}}}
    controller.router.refusals_arrived(child, ("exceeded quota",))
    assert asyncio.run(waiting(controller)) == {JOBS[0], POLICY}
    controller.router.refusals_arrived(child, ("exceeded quota",))
    assert asyncio.run(waiting(controller)) == set()
    controller.router.refusals_arrived(child, ())
    assert asyncio.run(waiting(controller)) == {JOBS[0], POLICY}
    assert controller.memory.refusals == {"j": ()}


def test_a_worker_is_heard_when_its_work_moves_and_not_when_its_clock_does() -> None:
    controller, pods = quiet_controller(), {"p": {"metadata": {"name": "p", "namespace": "ns", "uid": "p"}}}
    moments = [NOW + timedelta(seconds=seconds) for seconds in range(4)]
    answers = [progress(1), replace(progress(1), scoring_seconds=9.0), progress(2)]
    for answer, now in zip(answers, moments, strict=False):
        controller.router.progress_arrived(pods, {"p": answer}, now)
        assert controller.memory.heard["p"] == (moments[2] if answer is answers[2] else moments[0])
    controller.router.progress_arrived({}, {}, moments[3])
    assert controller.memory.heard == {}
