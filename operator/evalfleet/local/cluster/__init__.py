"""A Kubernetes control plane and nodes on this machine, as ordinary processes (Linux only).

Deliberately absent: containers, images, cluster networking. See docs/local-cluster.md.
"""

from evalfleet.local.cluster.cluster import (
    ClusterError,
    LocalCluster,
    attach,
    default_folder,
    local_cluster,
    start_cluster,
)
from evalfleet.local.cluster.config import ClusterConfig, ConfigError, HostImage, Pool

__all__ = [
    "ClusterConfig",
    "ClusterError",
    "ConfigError",
    "HostImage",
    "LocalCluster",
    "Pool",
    "attach",
    "default_folder",
    "local_cluster",
    "start_cluster",
]
