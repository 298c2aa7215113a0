"""kubeconfig files with embedded certificates."""

import base64
from pathlib import Path

import yaml

from evalfleet.local.cluster.files import write_private
from evalfleet.local.cluster.pki import KeyPair

CLUSTER_NAME = "evalfleet-local"


def write_kubeconfig(path: Path, server: str, ca: Path, user: KeyPair) -> Path:
    """Write a kubeconfig (mode 0600) that connects to `server` as the owner of `user`."""
    cluster = {"server": server, "certificate-authority-data": _encoded(ca)}
    credentials = {
        "client-certificate-data": _encoded(user.certificate),
        "client-key-data": _encoded(user.key),
    }
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CLUSTER_NAME, "cluster": cluster}],
        "users": [{"name": CLUSTER_NAME, "user": credentials}],
        "contexts": [{"name": CLUSTER_NAME, "context": {"cluster": CLUSTER_NAME, "user": CLUSTER_NAME}}],
        "current-context": CLUSTER_NAME,
    }
    write_private(path, yaml.safe_dump(content, sort_keys=False))
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
