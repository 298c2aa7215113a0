"""The cluster's own certificate authority, certificates and service-account key.

Everything is ECDSA P-256, lives as long as the cluster's folder and is readable by its owner alone.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from evalfleet.local.cluster.files import write_private

_VALID = datetime.timedelta(days=30)
# A clock that is a little behind must not refuse a fresh certificate.
_SKEW = datetime.timedelta(hours=1)
SERVICE_NETWORK = "10.96.0.0/16"
_KUBERNETES_SERVICE_IP = "10.96.0.1"
_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class KeyPair:
    """Paths of a certificate and of its private key."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """Paths of everything the control plane presents or checks."""

    ca: KeyPair
    etcd_ca: KeyPair
    etcd_server: KeyPair
    etcd_client: KeyPair
    apiserver: KeyPair
    kubelet_client: KeyPair
    kubelet_server: KeyPair
    admin: KeyPair
    host_nodes: KeyPair
    controller_manager: KeyPair
    scheduler: KeyPair
    service_account_key: Path
    service_account_public_key: Path


def create_pki(folder: Path) -> Pki:
    """Write a fresh authority and every certificate into `folder` (mode 0700)."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster, etcd = _Authority(folder, "ca"), _Authority(folder, "etcd-ca")
    private, public = _service_account_keys(folder)
    return Pki(
        ca=cluster.pair,
        # etcd trusts an authority of its own: a certificate for the API server opens nothing in etcd.
        etcd_ca=etcd.pair,
        etcd_server=etcd.issue("etcd-server", "etcd", server=True, client=True),
        etcd_client=etcd.issue("etcd-client", "kube-apiserver-etcd-client", client=True),
        apiserver=cluster.issue("apiserver", "kube-apiserver", server=True),
        kubelet_client=cluster.issue("kubelet-client", KUBELET_CLIENT_NAME, client=True),
        kubelet_server=cluster.issue("kubelet-server", "evalfleet-host-nodes", server=True),
        admin=cluster.issue("admin", "kubernetes-admin", organization="system:masters", client=True),
        host_nodes=cluster.issue("host-nodes", "evalfleet-host-nodes", organization="system:masters", client=True),
        controller_manager=cluster.issue("controller-manager", "system:kube-controller-manager", client=True),
        scheduler=cluster.issue("scheduler", "system:kube-scheduler", client=True),
        service_account_key=private,
        service_account_public_key=public,
    )


KUBELET_CLIENT_NAME = "kube-apiserver-kubelet-client"
"""The only common name that may read pod logs from the host nodes."""


class _Authority:
    """A self-signed certificate authority that writes what it issues."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(f"evalfleet-{name}", "")
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), False)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.pair = _write_pair(folder, name, self._certificate, self._key)

    def issue(
        self, name: str, common_name: str, *, organization: str = "", server: bool = False, client: bool = False
    ) -> KeyPair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_subject(common_name, organization), self._name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
        builder = builder.add_extension(_extended_usage(server=server, client=client), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(authority, critical=False)
        if server:
            builder = builder.add_extension(_server_names(), critical=False)
        return _write_pair(self._folder, name, builder.sign(self._key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _VALID)
    )


def _subject(common_name: str, organization: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _server_names() -> x509.SubjectAlternativeName:
    addresses = (ipaddress.ip_address(text) for text in ("127.0.0.1", _KUBERNETES_SERVICE_IP))
    return x509.SubjectAlternativeName([*map(x509.DNSName, _SERVER_NAMES), *map(x509.IPAddress, addresses)])


def _extended_usage(*, server: bool, client: bool) -> x509.ExtendedKeyUsage:
    usages = [ExtendedKeyUsageOID.SERVER_AUTH] if server else []
    return x509.ExtendedKeyUsage([*usages, *([ExtendedKeyUsageOID.CLIENT_AUTH] if client else [])])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _service_account_keys(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / "service-account.key", folder / "service-account.pub"
    write_private(private, _pem(key))
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    write_private(public, key.public_key().public_bytes(encoding, form))
    return private, public


def _write_pair(folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    pair = KeyPair(folder / f"{name}.crt", folder / f"{name}.key")
    write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    write_private(pair.key, _pem(key))
    return pair


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
