"""A local cluster ends with whoever started it, and what it stored survives its API server."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_client import ApiError, Client
from host_pods import pod, python, running

from evalfleet.local.cluster import ClusterConfig, ClusterError, LocalCluster, Pool, attach, start_cluster
from evalfleet.local.cluster.control import ControlError

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("control_plane_programs")]

TIMEOUT_SECONDS = 60.0
ONE_NODE = ClusterConfig(pools=(Pool("spot", capacity_type="spot"),))
PODS = "/api/v1/namespaces/default/pods"


def test_sigkill_of_the_supervisor_leaves_no_process_behind(tmp_path: Path) -> None:
    cluster = start_cluster(tmp_path, ONE_NODE)
    pids = processes_with_a_running_pod(cluster)
    os.kill(cluster.status()["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, pids)))


def test_sigkill_of_the_foreground_command_leaves_no_process_behind(tmp_path: Path) -> None:
    command = foreground(tmp_path)
    pids = processes_with_a_running_pod(LocalCluster(tmp_path))
    command.kill()
    wait_until(lambda: not any(map(alive, pids)))
    command.communicate()


def test_ctrl_c_ends_the_foreground_command_and_everything_it_started(tmp_path: Path) -> None:
    command = foreground(tmp_path)
    pids = processes_with_a_running_pod(LocalCluster(tmp_path))
    command.send_signal(signal.SIGINT)
    output, _ = command.communicate(timeout=TIMEOUT_SECONDS)
    assert (command.returncode, output.splitlines()[-1]) == (0, "stopped")
    assert not any(map(alive, pids))


@pytest.mark.slow
def test_a_background_cluster_is_private_refuses_a_second_and_ends_on_down(tmp_path: Path) -> None:
    cluster = start_cluster(tmp_path, ONE_NODE)
    pids = list(cluster.status()["servers"].values())
    for name in ("kubeconfig", "control.sock", "pki/ca.key", "pki/admin.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    with pytest.raises(ClusterError, match="evalfleet cluster down"):
        start_cluster(tmp_path, ONE_NODE)
    cluster.stop()
    assert not any(map(alive, pids))
    with pytest.raises(ControlError, match="evalfleet cluster up"):
        attach(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "programs.json",
        "lock",
        "logs",
        "supervisor.stderr",
    }


def test_etcd_and_api_server_refuse_who_has_no_certificate(shared_cluster: LocalCluster) -> None:
    servers = shared_cluster.status()["servers"]
    addresses = [f"https://127.0.0.1:{port}/" for name in ("etcd", "kube-apiserver") for port in ports(servers[name])]
    assert len(addresses) == 3
    answers = [subprocess.run(["curl", "-sk", address], capture_output=True, text=True).stdout for address in addresses]
    # etcd ends the TLS handshake; the API server answers 401.
    assert sorted(answers)[:2] == ["", ""]
    assert '"code": 401' in sorted(answers)[2]


@pytest.mark.parametrize("way", ["restarted", pytest.param("killed", marks=pytest.mark.slow)])
def test_the_api_server_comes_back_with_its_data_and_running_pods_go_on(
    shared_cluster: LocalCluster, cluster_client: Client, namespace: str, tmp_path: Path, way: str
) -> None:
    client, path = cluster_client, f"/api/v1/namespaces/{namespace}"
    client.create(f"{path}/configmaps", {"metadata": {"name": "kept"}, "data": {"k": "v"}})
    mark = tmp_path / "go"
    code = f"import os, time\nwhile not os.path.exists({str(mark)!r}): time.sleep(.05)\nraise SystemExit(75)"
    client.create(f"{path}/pods", pod("worker", python(code)))
    client.wait(f"{path}/pods/worker", running)
    before = shared_cluster.status()["servers"]["kube-apiserver"]
    with ThreadPoolExecutor(1) as pool:
        if way == "restarted":
            restart = pool.submit(shared_cluster.restart_apiserver, down_seconds=1.0)
        else:
            restart = pool.submit(os.kill, before, signal.SIGKILL)
        wait_until(lambda: not answers(client))
        mark.touch()  # the pod ends while nobody can be told
        restart.result()
    found = wait_through_outage(client, f"{path}/pods/worker", lambda p: p["status"]["phase"] == "Failed")
    assert shared_cluster.status()["servers"]["kube-apiserver"] != before
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 75
    assert client.get(f"{path}/configmaps/kept")["data"] == {"k": "v"}


def foreground(folder: Path) -> "subprocess.Popen[str]":
    code = "import typer; from evalfleet.cli.cluster import register; app = typer.Typer(); register(app); app()"
    argv = [sys.executable, "-c", code, "cluster", "up", "--foreground", "--dir", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}
    # A session of its own, as a terminal gives to a foreground job.
    command = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    assert command.stdout is not None
    for line in command.stdout:
        if line.startswith("running until"):
            return command
    raise AssertionError("the cluster did not start")


def processes_with_a_running_pod(cluster: LocalCluster) -> list[int]:
    """Run a pod with a child, and name every process of the cluster."""
    client = Client(cluster.kubeconfig)
    client.wait("/api/v1/namespaces/default/serviceaccounts/default", bool)
    code = "import subprocess, time; subprocess.Popen(['sleep', '600'], start_new_session=True); time.sleep(600)"
    client.create(PODS, pod("busy", python(code)))
    client.wait(f"{PODS}/busy", running)
    main = cluster.pod_pids("busy")["main"]
    wait_until(lambda: len(below(main)) == 1)
    supervisor = cluster.status()["pid"]
    everyone = [supervisor, *below(supervisor)]
    assert len(everyone) >= 1 + 4 + 3  # the servers; launcher, pod and its child
    return everyone


def below(pid: int) -> list[int]:
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    return [*children, *(grandchild for child in children for grandchild in below(child))]


def ports(pid: int) -> list[int]:
    """TCP ports that a process listens on."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        target = str(link.readlink())
        if target.startswith("socket:"):
            inodes.add(target[8:-1])
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [int(fields[1].split(":")[1], 16) for fields in lines if fields[3] == "0A" and fields[9] in inodes]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_through_outage(client: Client, path: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            return client.wait(path, holds, timeout=deadline - time.monotonic())
        except Exception as error:
            if time.monotonic() > deadline or (isinstance(error, AssertionError) and "did not get there" in str(error)):
                raise
            time.sleep(0.2)


def answers(client: Client) -> bool:
    try:
        client.get("/api/v1/namespaces/default")
    except ApiError as error:
        return error.status < 500
    except Exception:
        return False
    return True


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
