"""Model, data and run store on PersistentVolumeClaims, on host nodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_client import Client
from lm_eval_suite import choice_task, write_documents, write_model
from operator_bench import Bench, bench, condition, has, running_operator

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("claims")
    with bench(shared_cluster, cluster_client, "claims", folder) as made, running_operator(made):
        yield made


def claim(place: Bench, name: str, folder: Path) -> None:
    """A claim that is bound to a folder of this machine."""
    shared: Object = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = f"{place.namespace}-{name}"
    path = {"hostPath": {"path": str(folder)}, "capacity": {"storage": "1Gi"}}
    reference = {"claimRef": {"namespace": place.namespace, "name": name}}
    place.client.create("/api/v1/persistentvolumes", {"metadata": {"name": volume}, "spec": shared | path | reference})
    asked = {**shared, "volumeName": volume, "resources": {"requests": {"storage": "1Gi"}}}
    path_of_claims = f"/api/v1/namespaces/{place.namespace}/persistentvolumeclaims"
    place.client.create(path_of_claims, {"metadata": {"name": name}, "spec": asked})


def test_a_model_a_dataset_and_a_store_on_claims(place: Bench) -> None:
    write_model(place.folder / "disk" / "tiny" / "v1")
    write_documents(place.folder / "data")
    (place.folder / "store").mkdir()
    claim(place, "models", place.folder / "disk")
    claim(place, "datasets", place.folder / "data")
    place.create(
        "claimed",
        model={"uri": "pvc://models/tiny/v1"},
        data={"uri": "pvc://datasets", "offline": True},
        store={"uri": "pvc://runs/of/the/team"},
        evaluations=[{"name": "choice", "lmEval": {"taskConfig": choice_task(), "limit": 4}}],
        confirmRunUnsafeCode=False,
    )
    waiting = place.wait_for("claimed", "Planned", "Unknown", "ClaimMissing")
    assert "PersistentVolumeClaim runs does not exist" in condition(waiting, "Planned")["message"]
    claim(place, "runs", place.folder / "store")
    job = place.wait("claimed", lambda job: has(job, "Succeeded") or has(job, "Failed"))
    assert has(job, "Succeeded"), job["status"]["conditions"]
    assert job["status"]["samples"]["scored"] == 4
    assert job["status"]["resultsUri"].startswith("pvc://runs/of/the/team/")
    inside = job["status"]["resultsUri"].removeprefix("pvc://runs/")
    assert [file.name for file in (place.folder / "store" / inside).iterdir()]
