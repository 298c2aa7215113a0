"""Command lines of the four servers (pure)."""

from dataclasses import dataclass
from pathlib import Path

from evalfleet.local.cluster.pki import SERVICE_NETWORK, Pki


@dataclass(frozen=True)
class Endpoints:
    """Ports on 127.0.0.1 that were chosen for this cluster."""

    apiserver: int
    etcd_client: int
    etcd_peer: int
    kubelet: int

    @property
    def server(self) -> str:
        """Address of the API server."""
        return f"https://127.0.0.1:{self.apiserver}"


def etcd_arguments(pki: Pki, endpoints: Endpoints, data: Path) -> list[str]:
    """Mutual TLS on both ports: an etcd open to local users would be code execution for each of them."""
    client = f"https://127.0.0.1:{endpoints.etcd_client}"
    peer = f"https://127.0.0.1:{endpoints.etcd_peer}"
    return [
        "--name=local",
        f"--data-dir={data}",
        # Throw-away data only: a power loss may lose it, a killed process does not (the page cache survives).
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        f"--cert-file={pki.etcd_server.certificate}",
        f"--key-file={pki.etcd_server.key}",
        f"--trusted-ca-file={pki.etcd_ca.certificate}",
        "--client-cert-auth",
        f"--peer-cert-file={pki.etcd_server.certificate}",
        f"--peer-key-file={pki.etcd_server.key}",
        f"--peer-trusted-ca-file={pki.etcd_ca.certificate}",
        "--peer-client-cert-auth",
        "--log-level=warn",
    ]


def apiserver_arguments(pki: Pki, endpoints: Endpoints) -> list[str]:
    """Node and RBAC authorization, service-account tokens, no audit, no endpoints for itself."""
    return [
        f"--etcd-servers=https://127.0.0.1:{endpoints.etcd_client}",
        f"--etcd-cafile={pki.etcd_ca.certificate}",
        f"--etcd-certfile={pki.etcd_client.certificate}",
        f"--etcd-keyfile={pki.etcd_client.key}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        # The `kubernetes` Service has no endpoints here: they may not be loopback addresses.
        "--endpoint-reconciler-type=none",
        f"--secure-port={endpoints.apiserver}",
        f"--tls-cert-file={pki.apiserver.certificate}",
        f"--tls-private-key-file={pki.apiserver.key}",
        f"--client-ca-file={pki.ca.certificate}",
        f"--kubelet-certificate-authority={pki.ca.certificate}",
        f"--kubelet-client-certificate={pki.kubelet_client.certificate}",
        f"--kubelet-client-key={pki.kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--anonymous-auth=false",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.service_account_public_key}",
        f"--service-account-signing-key-file={pki.service_account_key}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--profiling=false",
        # Default 60 s: in-flight watches would hold every stop and restart that long.
        "--shutdown-delay-duration=0s",
        "--shutdown-watch-termination-grace-period=0s",
    ]


def controller_manager_arguments(pki: Pki, kubeconfig: Path) -> list[str]:
    """One identity per controller, no port, no leader election (there is one)."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki.service_account_key}",
        f"--root-ca-file={pki.ca.certificate}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--leader-elect=false",
        "--secure-port=0",
        # The default of 20 requests a second makes 100 Jobs take 3.9 s to start instead of 1.5 s.
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        # Default 15 s: a claim created just before its volume would wait that long.
        "--pvclaimbinder-sync-period=1s",
        "--profiling=false",
    ]


def scheduler_arguments(kubeconfig: Path) -> list[str]:
    """No port, no leader election."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--profiling=false",
    ]
