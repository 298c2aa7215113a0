"""A real control plane that tests share: loaded as a plugin, one cluster per test session.

Fixtures: `shared_cluster` (session; two spot nodes, on demand and `trio` with none yet), `namespace` (a fresh
namespace of it, deleted afterwards), `kube` (a JSON client of it). Tests that change nodes start a cluster of their own
with `evalfleet.local.cluster.local_cluster`.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_client import Client

from evalfleet.local.cluster import HostImage, LocalCluster, Pool, local_cluster
from evalfleet.local.cluster.binaries import CONTROL_PLANE, find_binaries

POOLS = (
    Pool("spot", capacity_type="spot", count=2, max_count=2, gpus=8),
    Pool("on-demand", count=0, max_count=2, startup_seconds=0.5, idle_seconds=600),
    Pool("trio", capacity_type="spot", count=0, max_count=0, gpus=3),
)
SUPPORT = Path(__file__).parent
SOURCES = (*(SUPPORT.parents[1] / part for part in ("operator", "scaling", "worker")), SUPPORT)
TOY_PATH = os.pathsep.join(map(str, SOURCES))
QUICK_CLAIMS = {
    "EVALFLEET_CLAIM_SETTINGS": '{"heartbeat_seconds": 1, "lease_seconds": 5, "backup_seconds": 5, "poll_seconds": 0.5}'
}
IMAGES = (
    HostImage("evalfleet/", sys.executable),
    HostImage("ghcr.io/evalfleet/", sys.executable),
    HostImage("evalfleet/toy", sys.executable, {"PYTHONPATH": TOY_PATH}),
    HostImage("evalfleet/quick-claims", sys.executable, {"PYTHONPATH": TOY_PATH, **QUICK_CLAIMS}),
    HostImage("evalfleet/no-python", "/nowhere/python"),
    HostImage("evalfleet/no-worker", str(Path(sys.base_prefix) / "bin" / "python3")),
)
"""Beside the usual images: toy evaluations (with claims as they are, and short), no Python, no worker."""
_names = itertools.count(1)


def missing_binaries_reason() -> str | None:
    """Why no control plane can be had here, or None. With Go the programs are built once (minutes) and cached."""
    if sys.platform != "linux":
        return "the local cluster needs Linux"
    if len(find_binaries()) == len(CONTROL_PLANE) or shutil.which("go"):
        return None
    return "no control-plane programs (KUBEBUILDER_ASSETS, PATH, cache) and no Go to build them"


@pytest.fixture(scope="session")
def control_plane_programs() -> None:
    """Skips, with the reason, where there is no control plane and no way to one."""
    reason = missing_binaries_reason()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_cluster(control_plane_programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    with local_cluster(POOLS, IMAGES, folder) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster_client(shared_cluster: LocalCluster) -> Client:
    return Client(shared_cluster.kubeconfig)


@pytest.fixture
def namespace(cluster_client: Client) -> Iterator[str]:
    name = f"test-{next(_names)}"
    cluster_client.create_namespace(name)
    yield name
    cluster_client.delete(f"/api/v1/namespaces/{name}")
