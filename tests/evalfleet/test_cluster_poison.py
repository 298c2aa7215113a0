"""Objects that the schema takes and no sane person writes: each sets its own condition, and its neighbour goes on."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import Client
from operator_bench import Bench, bench, condition, has, running_operator, terminal

from evalfleet.localcluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("poison")
    with bench(shared_cluster, cluster_client, "poison", folder) as made, running_operator(made):
        yield made


def task(**config: Any) -> Object:
    return {"name": "task", "lmEval": {"taskConfig": config}}


def resources(**quantities: str) -> Object:
    return {"worker": {"resources": quantities}}


NEVER_RUN: dict[str, tuple[Object, str, str]] = {
    "label": ({"worker": {"nodeSelector": {"not a label!": "x"}}}, "Stalled", "ObjectRefused"),
    "toleration": ({"worker": {"tolerations": [{"operator": "Exists", "value": "x"}]}}, "Stalled", "ObjectRefused"),
    "huge-config": (
        {"evaluations": [{**task(x="x" * 60_000), "name": f"e{n}"} for n in range(20)], "confirmRunUnsafeCode": False},
        "Stalled",
        "ObjectRefused",
    ),
    "cores": (resources(cpu="999999999"), "Planned", "WaitingForNode"),
    "millibyte": (resources(memory="1m"), "Failed", "OutOfMemory"),
    "no-claim": ({"store": {"uri": "pvc://nowhere/at/all"}}, "Planned", "ClaimMissing"),
    "strange-claim": ({"store": {"uri": "pvc://NOT A CLAIM/x"}}, "Planned", "ClaimMissing"),
    "no-function": (
        {"evaluations": [{"name": "e", "python": {"entrypoint": "toy_evaluation:nothing"}}]},
        "Failed",
        "InvalidTask",
    ),
    "no-task": (
        {"evaluations": [task(task=["x"], dataset_path={"a": 1})], "confirmRunUnsafeCode": False, "model": {"uri": "file:///"}},
        "Failed",
        "InvalidModelRef",
    ),
}  # fmt: skip


def test_absurd_objects_set_their_own_condition_and_their_neighbour_goes_on(place: Bench) -> None:
    place.client.create(f"/apis/batch/v1/namespaces/{place.namespace}/jobs", impostor())
    for name, (spec, _, _) in NEVER_RUN.items():
        place.create(name, **spec)
    place.create("neighbour")
    assert has(place.wait("neighbour", terminal), "Succeeded")
    for name, (_, kind, reason) in NEVER_RUN.items():
        stated = place.wait(name, lambda job, kind=kind, reason=reason: states(job, kind, reason))  # type: ignore[misc]
        assert len(condition(stated, kind)["message"]) > 20, name


def states(job: Object, kind: str, reason: str) -> bool:
    return any(has(job, kind, status, reason) for status in ("True", "False", "Unknown"))


def impostor() -> Object:
    """A Job that pretends to be a worker of nobody, with labels that make no sense."""
    labels = {
        "app.kubernetes.io/managed-by": "evalfleet",
        "evalfleet.io/run": "nobody",
        "evalfleet.io/role": "work",
        "evalfleet.io/slot": "first",
    }
    container = {"name": "c", "image": "elsewhere/image:1", "command": ["true"]}
    template = {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "impostor", "labels": labels},
        "spec": {"template": template},
    }
