"""Children that have the name already: those of a deleted EvaluationJob of the same name, and those of strangers."""

from typing import Any

import pytest
from operator_states import manifest
from small_api_server import SmallServer, error, small_server

from evalfleet.controller.controller import Controller
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.resources import Key
from evalfleet.reconcile.conditions import find
from evalfleet_scaling.fleet import decide_fleet

JOBS = "/apis/evalfleet.io/v1alpha1/namespaces/ns/evaluationjobs"
BATCH_JOBS = "/apis/batch/v1/namespaces/ns/jobs"
CONFIG_MAPS = "/api/v1/namespaces/ns/configmaps"
KEY = Key("EvaluationJob", "ns", "job")


def leftover(owner: str, kind: str = "EvaluationJob") -> dict[str, Any]:
    """The ConfigMap of an earlier object."""
    reference = {"apiVersion": "evalfleet.io/v1alpha1", "kind": kind, "name": "job", "uid": owner, "controller": True}
    return {
        "metadata": {"name": "job-run", "namespace": "ns", "ownerReferences": [reference]},
        "data": {"spec.json": "old"},
    }


def state(server: SmallServer, kind: str) -> tuple[str, str]:
    found = find(server.objects[f"{JOBS}/job"]["status"]["conditions"], kind) or {}
    return str(found.get("status")), str(found.get("message"))


async def test_a_job_created_again_waits_for_the_children_of_its_predecessor_to_go() -> None:
    async with small_server() as (server, kube):
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        server.put(CONFIG_MAPS, leftover("the predecessor"))
        controller.router.deliver("EvaluationJob", "ADDED", server.put(JOBS, manifest()))
        with pytest.raises(RuntimeError, match="predecessor"):
            await controller.reconcile(KEY)
        assert "/apis/batch/v1/namespaces/ns/jobs/job-plan" not in server.objects  # it would read the old spec
        assert (state(server, "Reconciling")[0], state(server, "Stalled")[0]) == ("True", "None")
        assert "predecessor" in state(server, "Ready")[1]
        del server.objects[f"{CONFIG_MAPS}/job-run"]
        await controller.reconcile(KEY)
        assert server.objects[f"{CONFIG_MAPS}/job-run"]["data"]["spec.json"] != "old"
        assert "/apis/batch/v1/namespaces/ns/jobs/job-plan" in server.objects


@pytest.mark.parametrize("stranger", [leftover("a release", "HelmRelease"), {"metadata": {"name": "job-run"}}])
async def test_a_strangers_object_under_a_childs_name_stalls_the_job_and_is_named(stranger: dict[str, Any]) -> None:
    async with small_server() as (server, kube):
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        server.put(CONFIG_MAPS, stranger)
        controller.router.deliver("EvaluationJob", "ADDED", server.put(JOBS, manifest()))
        with pytest.raises(RuntimeError, match="job-run"):
            await controller.reconcile(KEY)
        assert state(server, "Stalled")[0] == "True"
        assert "ConfigMap ns/job-run" in state(server, "Stalled")[1]


async def test_nothing_more_is_created_once_another_operator_may_lead() -> None:
    async with small_server() as (server, kube):
        held = iter([True, True, False])
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet, lambda: next(held))
        controller.router.deliver("EvaluationJob", "ADDED", server.put(JOBS, manifest()))
        with pytest.raises(RuntimeError, match="another operator may lead"):
            await controller.reconcile(KEY)
        assert f"{CONFIG_MAPS}/job-run" in server.objects
        assert f"{BATCH_JOBS}/job-plan" not in server.objects


async def test_its_own_child_that_the_cache_does_not_know_yet_is_adopted() -> None:
    async with small_server() as (server, kube):
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        job = server.put(JOBS, manifest())
        server.put(CONFIG_MAPS, leftover(job["metadata"]["uid"]))
        controller.router.deliver("EvaluationJob", "ADDED", job)
        await controller.reconcile(KEY)
        assert state(server, "Stalled")[0] == "None"


async def test_a_job_whose_child_is_refused_rests_until_it_is_tried_again() -> None:
    async with small_server() as (server, kube):
        controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
        server.refuse = lambda method, path, _: error(422, "no") if (method, path) == ("POST", BATCH_JOBS) else None
        controller.router.deliver("EvaluationJob", "ADDED", server.put(JOBS, manifest()))
        for _ in range(3):
            with pytest.raises(RuntimeError, match="422"):
                await controller.reconcile(KEY)
        assert f"{CONFIG_MAPS}/job-run" in server.objects
        while len(controller.queue):
            controller.queue.done(await controller.queue.get())
        with pytest.raises(RuntimeError, match="422"):
            await controller.reconcile(KEY)
        assert not len(controller.queue)
