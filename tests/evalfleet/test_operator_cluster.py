"""The operator as a real process on a real API server: a whole evaluation, faults in the middle, honest failures."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_client import Client
from lm_eval_suite import choice_task, write_documents, write_model
from operator_bench import OperatorProcess

from evalfleet.local.cluster import LocalCluster
from evalfleet.reconcile.conditions import status_of

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    write_model(folder / "model")
    write_documents(folder / "data")
    return folder


@pytest.fixture
def operator(
    shared_cluster: LocalCluster, cluster_client: Client, namespace: str, place: Path
) -> Iterator[OperatorProcess]:
    for crd in sorted((ROOT / "crds").glob("*.evalfleet.io.yaml")):
        subprocess.run(
            [shared_cluster.kubectl, f"--kubeconfig={shared_cluster.kubeconfig}", "apply", "-f", crd],
            check=True,
            capture_output=True,
        )
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/evaluationjobs.evalfleet.io"
    cluster_client.wait(path, lambda crd: status_of(crd["status"].get("conditions") or [], "Established") == "True")
    environment = {
        "KUBECONFIG": str(shared_cluster.kubeconfig),
        "EVALFLEET_NAMESPACE": namespace,
        "EVALFLEET_WATCH_NAMESPACES": namespace,
        "EVALFLEET_ALLOW_FILE_URIS": "true",
        "EVALFLEET_SIMULATED_GPUS": "true",
        "EVALFLEET_HOST_CACHE": str(place / "cache"),
    }
    process = OperatorProcess(environment, place / "operator.log")
    process.start()
    yield process
    process.kill()


def evaluation(place: Path, **spec: Any) -> Object:
    task = choice_task()
    return {
        "apiVersion": "evalfleet.io/v1alpha1",
        "kind": "EvaluationJob",
        "metadata": {"name": "tiny"},
        "spec": {
            "model": {"uri": f"file://{place / 'model'}"},
            "evaluations": [{"name": "choice", "lmEval": {"taskConfig": task}}],
            "data": {"uri": f"file://{place / 'data'}", "offline": True},
            "store": {"uri": f"file://{place / 'runs'}"},
            **spec,
        },
    }


def jobs_path(namespace: str, name: str = "") -> str:
    return f"/apis/evalfleet.io/v1alpha1/namespaces/{namespace}/evaluationjobs" + (f"/{name}" if name else "")


def is_status(found: Object, kind: str, status: str = "True") -> bool:
    return status_of((found.get("status") or {}).get("conditions") or [], kind) == status


def reason_of(found: Object, kind: str) -> str:
    conditions = found["status"]["conditions"]
    return str(next(c["reason"] for c in conditions if c["type"] == kind))


def terminal(found: Object) -> bool:
    return is_status(found, "Succeeded") or is_status(found, "Succeeded", "False")


def succeeded(client: Client, namespace: str, name: str = "tiny") -> Object:
    found = client.wait(jobs_path(namespace, name), terminal, 240)
    assert is_status(found, "Ready"), found["status"]["conditions"]
    return found


def test_an_evaluation_succeeds_though_the_operator_is_killed_in_the_middle(
    operator: OperatorProcess, cluster_client: Client, namespace: str, place: Path
) -> None:
    cluster_client.create(jobs_path(namespace), evaluation(place))
    cluster_client.wait(jobs_path(namespace, "tiny"), lambda found: is_status(found, "Planned"), 240)
    operator.end(signal.SIGKILL)
    operator.start()
    status = succeeded(cluster_client, namespace)["status"]
    assert {row["metric"] for row in status["results"]} >= {"acc", "acc_norm"}
    assert status["samples"]["planned"] == status["samples"]["scored"] == 14
    assert status["progress"]["percent"] == 100


def test_a_wrong_model_path_fails_with_its_reason_and_an_absurd_neighbour_concerns_only_itself(
    operator: OperatorProcess, cluster_client: Client, namespace: str, place: Path
) -> None:
    absurd = evaluation(place, worker={"nodeSelector": {"not a label!": "x"}})
    cluster_client.create(jobs_path(namespace), {**absurd, "metadata": {"name": "absurd"}})
    wrong = evaluation(place, model={"uri": f"file://{place / 'nowhere'}"})
    cluster_client.create(jobs_path(namespace), {**wrong, "metadata": {"name": "wrong"}})
    found = cluster_client.wait(jobs_path(namespace, "wrong"), terminal, 240)
    assert reason_of(found, "Failed") == "InvalidModelRef"
    refused = cluster_client.wait(jobs_path(namespace, "absurd"), lambda job: is_status(job, "Stalled"), 60)
    assert reason_of(refused, "Stalled") == "ObjectRefused"


@pytest.mark.slow
def test_a_deleted_evaluation_leaves_no_child_behind_with_the_operator_down_too(
    operator: OperatorProcess, cluster_client: Client, namespace: str, place: Path
) -> None:
    cluster_client.create(jobs_path(namespace), evaluation(place))
    children = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    cluster_client.wait(children, lambda found: bool(found.get("items")), 60)
    operator.end(signal.SIGKILL)
    cluster_client.delete(jobs_path(namespace, "tiny"))
    cluster_client.wait(jobs_path(namespace, "tiny"), lambda found: not found, 60)
    cluster_client.wait(children, lambda found: not found.get("items"), 120)


@pytest.mark.slow
def test_sigterm_ends_a_leader_in_good_order_and_gives_the_lease_back(
    operator: OperatorProcess, cluster_client: Client, namespace: str
) -> None:
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/evalfleet-operator"
    cluster_client.wait(lease, lambda found: bool(found and found["spec"].get("holderIdentity")), 60)
    assert operator.end(signal.SIGTERM) == 0
    assert cluster_client.get(lease)["spec"].get("holderIdentity", "") == ""
