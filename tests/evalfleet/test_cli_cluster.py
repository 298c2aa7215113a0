"""`get`, `describe`, `crds` and `results` as users start them, against a real API server."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from cli import json_of, run_cli
from cluster_client import Client

from evalfleet.local.cluster import LocalCluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def api(shared_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a user whose cluster has the CRDs, installed from what `evalfleet crds` prints."""
    environment = {**os.environ, "KUBECONFIG": str(shared_cluster.kubeconfig)}
    printed = run_cli("crds", cwd=tmp_path_factory.mktemp("crds"))
    argv = [str(shared_cluster.kubectl), "apply", "--server-side", "-f", "-"]
    subprocess.run(argv, input=printed.stdout, env=environment, check=True, capture_output=True, text=True)
    wait = [str(shared_cluster.kubectl), "wait", "--for=condition=Established", "crd/evaluationjobs.evalfleet.io"]
    subprocess.run(wait, env=environment, check=True, capture_output=True)
    return environment


@pytest.fixture
def job(api: dict[str, str], cluster_client: Client, namespace: str) -> str:
    body = yaml.safe_load((ROOT / "examples/evaluationjob-hub.yaml").read_text("utf-8"))
    path = f"/apis/evalfleet.io/v1alpha1/namespaces/{namespace}/evaluationjobs"
    created = cluster_client.create(path, body)
    about = {key: created[key] for key in ("apiVersion", "kind")} | {
        key: created["metadata"][key] for key in ("name", "namespace", "uid")
    }
    event = {"metadata": {"name": "seen"}, "involvedObject": about, "type": "Normal", "reason": "Seen", "message": "!"}
    cluster_client.create(f"/api/v1/namespaces/{namespace}/events", event)
    return str(created["metadata"]["name"])


def test_get_lists_jobs_as_a_table_and_as_objects(
    job: str, namespace: str, api: dict[str, str], tmp_path: Path
) -> None:
    table = run_cli("get", "-n", namespace, cwd=tmp_path, **api).stdout.splitlines()
    assert table[0].startswith("NAME")
    assert table[1].startswith(job)
    assert "NotSeenYet" in table[1]
    listed = json_of(run_cli("get", "-A", "-o", "json", cwd=tmp_path, **api))
    assert job in [item["metadata"]["name"] for item in listed["items"]]
    one = json_of(run_cli("get", job, "-n", namespace, "-o", "json", cwd=tmp_path, **api))
    assert one["metadata"]["namespace"] == namespace


def test_describe_tells_conditions_and_events(job: str, namespace: str, api: dict[str, str], tmp_path: Path) -> None:
    text = run_cli("describe", f"evj/{job}", "-n", namespace, cwd=tmp_path, **api).stdout
    assert f"EvaluationJob {namespace}/{job}: NotSeenYet" in text
    assert "Seen" in text


def test_what_is_not_there_is_an_error_that_names_it(
    job: str, namespace: str, api: dict[str, str], tmp_path: Path
) -> None:
    missing = run_cli("describe", "nothing", "-n", namespace, cwd=tmp_path, **api)
    assert missing.returncode == 3
    assert 'evaluationjobs.evalfleet.io "nothing" not found' in missing.stderr
    unfinished = run_cli("results", job, "-n", namespace, cwd=tmp_path, **api)
    assert unfinished.returncode == 3
    assert "has no results: the operator has not seen it yet" in unfinished.stderr


def test_the_condition_and_not_the_rows_decides_how_results_end(
    job: str, namespace: str, api: dict[str, str], cluster_client: Client, tmp_path: Path
) -> None:
    row = {"evaluation": "e", "task": "t", "metric": "acc", "filter": "strict", "value": "0.5", "n": 4}
    path = f"/apis/evalfleet.io/v1alpha1/namespaces/{namespace}/evaluationjobs/{job}/status"
    for status, code in (("True", 0), ("False", 1)):
        told = {"reason": "R", "message": "e2 has no score", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        ended = [{"type": "Succeeded", "status": status, **told}, {"type": "Ready", "status": status, **told}]
        rows = {"results": [row], "resultsTruncated": 7, "conditions": ended, "resultsUri": "s3://b/r"}
        cluster_client.patch(path, {"status": rows})
        shown = run_cli("results", job, "-n", namespace, cwd=tmp_path, **api)
        assert shown.returncode == code
        assert "acc (strict)" in shown.stdout
        assert "7 more results lie at s3://b/r" in shown.stdout
        assert ("e2 has no score" in shown.stderr) == (code == 1)


def test_without_a_cluster_the_way_to_one_is_named(tmp_path: Path) -> None:
    absent = run_cli("get", cwd=tmp_path, KUBECONFIG=str(tmp_path / "none"))
    assert absent.returncode == 3
    assert absent.stderr.startswith("error: no cluster to ask")
    unreachable = tmp_path / "config"
    cluster = {"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}
    context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
    config = {
        "current-context": "x",
        "clusters": [cluster],
        "contexts": [context],
        "users": [{"name": "u", "user": {}}],
    }
    unreachable.write_text(json.dumps(config), "utf-8")
    down = run_cli("get", cwd=tmp_path, KUBECONFIG=str(unreachable))
    assert down.returncode == 3
    assert down.stderr.startswith("error: the cluster does not answer")
