"""A test run that is killed leaves no process behind: no operator, no control plane, no worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_cluster import SUPPORT, TOY_PATH
from operator_bench import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("control_plane_programs")]

RUN = """
import signal, sys
from pathlib import Path
from cluster_client import Client
from fixtures_cluster import IMAGES, POOLS
from lifecycle import wait_for_workers
from operator_bench import bench, running_operator, toy
from evalfleet.local.cluster import local_cluster

folder = Path(sys.argv[1])
with local_cluster(POOLS, IMAGES, folder / "cluster") as cluster:
    with bench(cluster, Client(cluster.kubeconfig), "left", folder) as place, running_operator(place):
        place.create("run", evaluations=[toy("long", count="5000", seconds="0.1")])
        wait_for_workers(place, "run", 1)
        print("working", flush=True)
        signal.pause()
"""


def below(pid: int) -> dict[int, str]:
    """Every living process below another one, with its command line."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (parent := parent_of(int(folder.name))):
            parents[int(folder.name)] = parent
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: command_of(child) for child in found - {pid}}


def parent_of(pid: int) -> int:
    """The parent of a process, 0 for one that has ended."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(parent)


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text("utf-8").replace("\0", " ")
    except OSError:
        return ""


def test_sigkill_of_a_test_run_leaves_no_process_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), TOY_PATH])}
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "working\n"
        started = below(run.pid)
        run.kill()
    for what in ("kube-apiserver", "etcd", "evalfleet.cli.main operator", "evalfleet_worker work"):
        assert [command for command in started.values() if what in command], what
    wait_until(lambda: not any(map(parent_of, started)), f"left behind: {started}")
