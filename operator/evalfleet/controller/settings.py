"""Settings of the operator process: environment in, frozen values out."""

from collections.abc import Mapping
from dataclasses import dataclass

from evalfleet.reconcile.job.state import Site


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator process is started with.

    Attributes:
        namespace: where it runs; holds its Lease and spend ledgers.
        watch_namespaces: namespaces it serves; empty = all.
        worker_image: default image of plan, work and finish pods.
        identity: its name in the Lease.
        http_address: host:port (without host: every address of the pod) of /healthz, /readyz and /metrics.
        host_cache: folder for models that all pods share, on host nodes of one machine; else each pod has its own.
        allow_file_uris: permit file:// and package:// URIs (host nodes of one machine).
        leader_election: off only for a single local process.
        progress_seconds: how often workers are asked for progress.
        resync_seconds: how often everything is listed again.
        stuck_seconds: how long one reconciliation may run before /healthz gives the process up.
    """

    namespace: str = "evalfleet-system"
    watch_namespaces: tuple[str, ...] = ()
    worker_image: str = "ghcr.io/evalfleet/worker:0.1.0"
    identity: str = "evalfleet"
    http_address: str = ":8080"
    host_cache: str | None = None
    allow_file_uris: bool = False
    leader_election: bool = True
    progress_seconds: float = 2.0
    resync_seconds: float = 60.0
    stuck_seconds: float = 300.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], identity: str) -> "Settings":
        """Read EVALFLEET_* variables; unset ones keep their default."""
        default = cls()
        watch = environment.get("EVALFLEET_WATCH_NAMESPACES", "")
        return cls(
            namespace=environment.get("EVALFLEET_NAMESPACE", default.namespace),
            watch_namespaces=tuple(name for name in watch.split(",") if name),
            worker_image=environment.get("EVALFLEET_WORKER_IMAGE", default.worker_image),
            identity=environment.get("EVALFLEET_IDENTITY", identity),
            http_address=environment.get("EVALFLEET_HTTP_ADDRESS", default.http_address),
            host_cache=environment.get("EVALFLEET_HOST_CACHE") or None,
            allow_file_uris=environment.get("EVALFLEET_ALLOW_FILE_URIS", "") == "true",
            leader_election=environment.get("EVALFLEET_LEADER_ELECTION", "true") == "true",
        )

    @property
    def site(self) -> Site:
        """What reconciliation knows of them."""
        return Site(self.worker_image, self.host_cache, self.allow_file_uris)
