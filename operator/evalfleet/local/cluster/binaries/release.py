"""Which versions of which programs the local control plane uses, and how each of them is obtained."""

from dataclasses import dataclass

KUBERNETES_VERSION = "v1.36.3"
ETCD_VERSION = "v3.6.14"
KWOK_VERSION = "v0.8.0"
HELM_VERSION = "v4.2.4"

KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
"""Taken from one place together: mixed versions beyond the supported skew fail in ways that look like our faults."""

CONTROL_PLANE = ("etcd", *KUBERNETES)


@dataclass(frozen=True)
class Release:
    """How one program is built and downloaded.

    `module` is the folder of its pinned Go module, `package` what `go build` gets, `url` the official download
    (`{arch}` is filled in), `checksum_url` the list of SHA-256 sums published with it, and `member` the file inside
    the archive (empty: the download is the program itself).
    """

    name: str
    version: str
    module: str
    package: str
    url: str
    checksum_url: str
    member: str = ""
    ldflags: tuple[str, ...] = ()

    @property
    def build_seconds_hint(self) -> int:
        """Cold build on two cores, measured; shown so that nobody takes five silent minutes for a hang."""
        return _COLD_BUILD_SECONDS[self.name]


_COLD_BUILD_SECONDS = {
    "etcd": 40,
    "kube-apiserver": 300,
    "kube-controller-manager": 90,
    "kube-scheduler": 6,
    "kubectl": 26,
    "kwok": 95,
    "helm": 95,
}

_VERSION_PACKAGE = "k8s.io/component-base/version"
_KUBERNETES_LDFLAGS = (
    # Without these the server reports v0.0.0-master and clients refuse its version skew.
    f"-X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION}",
    f"-X {_VERSION_PACKAGE}.gitMajor={KUBERNETES_VERSION.removeprefix('v').split('.')[0]}",
    f"-X {_VERSION_PACKAGE}.gitMinor={KUBERNETES_VERSION.split('.')[1]}",
)


def _kubernetes(name: str) -> Release:
    url = f"https://dl.k8s.io/release/{KUBERNETES_VERSION}/bin/linux/{{arch}}/{name}"
    return Release(
        name=name,
        version=KUBERNETES_VERSION,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        url=url,
        checksum_url=f"{url}.sha256",
        ldflags=_KUBERNETES_LDFLAGS,
    )


_ETCD_URL = f"https://github.com/etcd-io/etcd/releases/download/{ETCD_VERSION}"
_KWOK_URL = f"https://github.com/kubernetes-sigs/kwok/releases/download/{KWOK_VERSION}"
_HELM_URL = f"https://get.helm.sh/helm-{HELM_VERSION}-linux-{{arch}}.tar.gz"

RELEASES: dict[str, Release] = {
    **{name: _kubernetes(name) for name in KUBERNETES},
    "etcd": Release(
        name="etcd",
        version=ETCD_VERSION,
        module="etcd",
        package="go.etcd.io/etcd/server/v3",
        url=f"{_ETCD_URL}/etcd-{ETCD_VERSION}-linux-{{arch}}.tar.gz",
        checksum_url=f"{_ETCD_URL}/SHA256SUMS",
        member=f"etcd-{ETCD_VERSION}-linux-{{arch}}/etcd",
    ),
    "kwok": Release(
        name="kwok",
        version=KWOK_VERSION,
        module="kwok",
        package="sigs.k8s.io/kwok/cmd/kwok",
        url=f"{_KWOK_URL}/kwok-linux-{{arch}}",
        checksum_url=f"{_KWOK_URL}/kwok-linux-{{arch}}.sha256",
    ),
    "helm": Release(
        name="helm",
        version=HELM_VERSION,
        module="helm",
        package="helm.sh/helm/v4/cmd/helm",
        url=_HELM_URL,
        checksum_url=f"{_HELM_URL}.sha256sum",
        member="linux-{arch}/helm",
    ),
}
