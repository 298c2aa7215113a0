"""The shipped base renders, applies to a real API server, and grants nothing it should not."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.local.cluster import LocalCluster

pytestmark = pytest.mark.cluster

K8S = Path(__file__).parents[2] / "k8s"


def kubectl(cluster: LocalCluster, *arguments: str | Path) -> str:
    command = [cluster.kubectl, f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_base_and_the_samples_apply_cleanly(shared_cluster: LocalCluster, namespace: str) -> None:
    kubectl(shared_cluster, "apply", "--server-side", "--validate=strict", "-k", K8S / "base")
    for crd in ("evaluationjobs", "scalingpolicies"):
        kubectl(shared_cluster, "wait", "--for=condition=Established", f"crd/{crd}.evalfleet.io", "--timeout=60s")
    samples = K8S / "samples"
    kubectl(
        shared_cluster,
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-n",
        namespace,
        "-f",
        samples,
    )
    kubectl(shared_cluster, "apply", "--server-side", "--validate=strict", "-n", namespace, "-k", K8S / "namespace")
    may = ("auth", "can-i", "--as=system:serviceaccount:evalfleet-system:evalfleet-operator", "-n", namespace)
    assert kubectl(shared_cluster, *may, "create", "jobs.batch").strip() == "yes"
    for verb, resource in (
        ("get", "secrets"),
        ("create", "pods"),
        ("create", "pods/exec"),
        ("update", "evaluationjobs"),
        ("get", "pods"),
    ):
        command = [shared_cluster.kubectl, f"--kubeconfig={shared_cluster.kubeconfig}", *may, verb, resource]
        assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "no", resource
    kubectl(shared_cluster, "delete", "deployment", "evalfleet-operator", "-n", "evalfleet-system")


def test_the_samples_are_what_the_models_accept() -> None:
    kinds: dict[str, Any] = {"EvaluationJob": EvaluationJob, "ScalingPolicy": ScalingPolicy}
    documents = [yaml.safe_load(path.read_text("utf-8")) for path in sorted((K8S / "samples").glob("*.yaml"))]
    assert {document["kind"] for document in documents} == set(kinds)
    for document in documents:
        kinds[document["kind"]].model_validate(document)
