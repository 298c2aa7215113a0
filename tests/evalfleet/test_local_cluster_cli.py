"""`evalfleet cluster` as a user types it."""

import json
import os
from pathlib import Path

import pytest
import typer
from cluster_client import Client
from typer.testing import CliRunner

from evalfleet.cli.cluster import register
from evalfleet.local.cluster import ClusterConfig, ClusterError, LocalCluster, Pool, start_cluster

application = typer.Typer()
register(application)


def evalfleet(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(application, ["cluster", *arguments])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status"], 3, "start one with: evalfleet cluster up"),
        (["kubeconfig"], 3, "no local cluster answers"),
        (["down"], 3, "no local cluster answers"),
        (["reclaim", "spot-1"], 3, "no local cluster answers"),
        (["up", "--pool", "count=2"], 2, "has no name="),
        (["up", "--image", "worker=/no/python"], 2, "PREFIX=PYTHON"),
    ],
)
def test_what_cannot_work_says_what_to_do(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    exit_code, output = evalfleet(*arguments, "--dir", str(tmp_path))
    assert exit_code == code
    assert message in " ".join(output.split())


def test_programs_are_printed_with_their_paths_and_unknown_ones_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "etcd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert evalfleet("binaries", "etcd") == (0, f"etcd {program}\n")
    assert evalfleet("binaries", "dockerd")[0] == 2


def test_a_server_that_does_not_stay_up_is_named_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"):
        program = programs / name
        program.write_text("#!/bin/sh\necho 'the disk is full' >&2; exit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(programs))
    with pytest.raises(ClusterError, match=r"(etcd|kube-apiserver) does not stay up; it said: the disk is full"):
        start_cluster(tmp_path / "cluster", ClusterConfig(pools=(Pool("one"),)))


@pytest.mark.cluster
def test_status_kubeconfig_and_reclaim_of_a_running_cluster(
    shared_cluster: LocalCluster, cluster_client: Client
) -> None:
    folder = ["--dir", str(shared_cluster.folder)]
    code, output = evalfleet("status", *folder, "-o", "json")
    state = json.loads(output)
    assert code == 0
    assert {node["pool"] for node in state["nodes"]} >= {"spot"}
    assert all(Path(f"/proc/{pid}").exists() for pid in state["servers"].values())
    assert evalfleet("status", *folder)[1].splitlines()[3].split()[:3] == ["NODE", "POOL", "CAPACITY"]
    assert evalfleet("kubeconfig", *folder) == (0, f"{shared_cluster.kubeconfig}\n")
    assert "client-key-data" in evalfleet("kubeconfig", *folder, "--content")[1]
    assert evalfleet("reclaim", "nowhere", *folder)[0] == 3
    assert evalfleet("reclaim", "spot-1", "--notice", "soon", *folder)[0] == 2
    node = state["nodes"][0]["name"]
    code, output = evalfleet("reclaim", node, "--notice", "10s", *folder)
    assert code == 0
    assert output.startswith(f"{node} is gone after")
    assert cluster_client.find(f"/api/v1/nodes/{node}") is None
    assert os.access(shared_cluster.kubectl, os.X_OK)
