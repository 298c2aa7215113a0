"""Simulated nodes by KWOK, for scale tests: their pods have a status and no process.

They carry a taint, so that only pods which tolerate it (and select them) land there.
"""

from pathlib import Path

from evalfleet.kube.client import Kube, KubeError
from evalfleet.local.cluster.config import CAPACITY_LABEL, GPU_RESOURCE, POOL_LABEL
from evalfleet.local.cluster.controlplane.servers import ControlPlane

SIMULATED_POOL = "simulated"
SIMULATED_TAINT = "kwok.x-k8s.io/node"
SERVER_NAME = "kwok"
_STAGES = Path(__file__).with_name("kwok_stages.yaml")
_CONFLICT = 409


def kwok_arguments(kubeconfig: Path) -> list[str]:
    """Only nodes of the simulated pool; the stages that ship with this package."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--config={_STAGES}",
        "--manage-all-nodes=false",
        f"--manage-nodes-with-label-selector={POOL_LABEL}={SIMULATED_POOL}",
        "--node-lease-duration-seconds=40",
    ]


async def simulate_nodes(
    control_plane: ControlPlane, kube: Kube, kubeconfig: Path, *, program: Path, count: int
) -> None:
    """Start KWOK if it does not run yet, and see to it that nodes simulated-1 ... simulated-`count` exist."""
    if SERVER_NAME not in control_plane.servers:
        await control_plane.start_server(SERVER_NAME, program, kwok_arguments(kubeconfig))
    for number in range(1, count + 1):
        try:
            await kube.create("/api/v1/nodes", _node(f"{SIMULATED_POOL}-{number}"))
        except KubeError as error:
            if error.status != _CONFLICT:
                raise


def _node(name: str) -> dict[str, object]:
    resources = {"cpu": "64", "memory": "512Gi", "pods": "250", GPU_RESOURCE: "64"}
    labels = {POOL_LABEL: SIMULATED_POOL, CAPACITY_LABEL: "spot", "kubernetes.io/hostname": name}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [{"key": SIMULATED_TAINT, "effect": "NoSchedule"}]},
        "status": {"capacity": resources, "allocatable": resources},
    }
