"""What is remembered between passes: written where facts arrive, forgotten when nothing is left."""

from typing import Any

from operator_states import condition, manifest
from small_api_server import SmallServer, small_server

from evalfleet.controller.controller import Controller
from evalfleet.controller.memory import Memory
from evalfleet.controller.metrics import Telemetry
from evalfleet.controller.settings import Settings
from evalfleet.kube.client import Kube
from evalfleet.kube.resources import Key
from evalfleet_scaling.fleet import decide_fleet

Object = dict[str, Any]
JOBS = "/apis/evalfleet.io/v1alpha1/namespaces/ns/evaluationjobs"
KEY = Key("EvaluationJob", "ns", "job")


def child(kind: str, name: str, owner: str, run: str, **status: Any) -> Object:
    """A worker Job or its pod."""
    labels = {"evalfleet.io/role": "work", "evalfleet.io/run": run, "evalfleet.io/slot": "0"}
    reference = {"kind": "x", "name": "x", "uid": owner, "controller": True}
    metadata = {"name": name, "namespace": "ns", "uid": f"{kind}-{name}", "labels": labels, "resourceVersion": "900"}
    metadata |= {"creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [reference]}
    return {"kind": kind, "metadata": metadata, "spec": {"containers": [], "nodeName": "n"}, "status": status}


def controller_of(server: SmallServer, kube: Kube, body: Object) -> tuple[Controller, str]:
    """A controller that knows one EvaluationJob, and its uid."""
    controller = Controller(kube, Settings(), Telemetry("test"), decide_fleet)
    stored = server.put(JOBS, body)
    controller.router.deliver("EvaluationJob", "ADDED", stored)
    return controller, stored["metadata"]["uid"]


async def test_a_pod_taken_away_is_remembered_until_it_is_counted_and_never_counted_again() -> None:
    async with small_server() as (server, kube):
        controller, uid = controller_of(server, kube, manifest(suspend=True))
        controller.router.deliver("Job", "ADDED", child("Job", "job-w0-1", uid, uid))
        taken = child("Pod", "job-w0-1-x", "Job-job-w0-1", uid, conditions=[condition("DisruptionTarget")])
        controller.router.deliver("Pod", "ADDED", taken)
        controller.router.deliver("Pod", "DELETED", taken)
        for listed in (1, 0, 0):
            await controller.reconcile(KEY)
            workers = server.objects[f"{JOBS}/job"]["status"]["workers"]
            assert (workers["preemptions"], len(workers["preempted"])) == (1, listed)
        assert controller.memory.runs[uid].preempted == {}


async def test_a_pod_whose_node_vanishes_was_taken_away_also_when_it_is_gone_before_anybody_looks() -> None:
    async with small_server() as (server, kube):
        controller, uid = controller_of(server, kube, manifest(suspend=True))
        running = child("Pod", "job-w0-1-x", "Job-job-w0-1", uid, phase="Running")
        controller.router.deliver("Job", "ADDED", child("Job", "job-w0-1", uid, uid))
        controller.router.deliver("Pod", "ADDED", running)
        controller.memory.lost_nodes.vanished("n")
        controller.router.nodes_lost({"n"})
        controller.router.deliver("Pod", "DELETED", running)
        await controller.reconcile(KEY)
        assert server.objects[f"{JOBS}/job"]["status"]["workers"]["preemptions"] == 1


async def test_of_a_job_that_is_history_nothing_is_remembered() -> None:
    async with small_server() as (server, kube):
        over = {**manifest(), "status": {"conditions": [condition("Succeeded")]}}
        controller, uid = controller_of(server, kube, over)
        worker = child("Job", "job-w0-1", uid, uid)
        controller.router.deliver("Job", "ADDED", worker)
        await controller.reconcile(KEY)
        assert set(controller.memory.runs) == {uid}  # its worker is not gone yet
        controller.router.deliver("Job", "DELETED", worker)
        await controller.reconcile(KEY)
        assert controller.memory.runs == {}
        assert uid not in controller.observer.jobs


async def test_what_is_remembered_of_a_job_that_is_gone_goes_with_the_next_listing() -> None:
    async with small_server() as (server, kube):
        controller, uid = controller_of(server, kube, manifest(suspend=True))
        controller.memory.run("somebody gone").generations[0] = 4
        controller.memory.run(uid).generations[0] = 3
        await controller.reconcile(KEY)
        controller.all_listed()
        assert set(controller.memory.runs) == {uid}
        assert controller.memory.runs[uid].generations == {0: 3}
        controller.router.deliver("EvaluationJob", "DELETED", server.objects[f"{JOBS}/job"])
        controller.all_listed()
        assert controller.memory == Memory(lost_nodes=controller.memory.lost_nodes)
        assert uid not in controller.observer.jobs
