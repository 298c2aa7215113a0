"""One host node: its Node object, its Lease and the pods bound to it."""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from evalfleet.kube.client import STRATEGIC, UNREACHABLE, Kube, KubeError, Object
from evalfleet.local.cluster.config import GPU_RESOURCE, Pool, parse_taint
from evalfleet.local.cluster.hostnode.clock import utc_now, utc_now_micro
from evalfleet.local.cluster.hostnode.environment import PodFacts
from evalfleet.local.cluster.hostnode.pod import PodRunner, PodServices

log = logging.getLogger(__name__)

NODE_ADDRESS = "127.0.0.1"
_LEASE_SECONDS = 40
_RENEW_SECONDS = 10.0
_RETRY_SECONDS = 0.5
_TERMINAL = ("Succeeded", "Failed")
_HEALTHY = {
    "MemoryPressure": ("False", "KubeletHasSufficientMemory", "memory limits are enforced for each container"),
    "DiskPressure": ("False", "KubeletHasNoDiskPressure", "not watched on host nodes"),
    "PIDPressure": ("False", "KubeletHasSufficientPID", "not watched on host nodes"),
    "Ready": ("True", "KubeletReady", "host node is posting ready status"),
}


@dataclass(frozen=True)
class NodeSettings:
    """What all host nodes of a cluster share."""

    kubelet_port: int
    kubelet_version: str
    pods_folder: Path
    take_address: Callable[[], str]


@dataclass
class HostNode:
    """A node of a pool that exists in the API server and on this machine."""

    name: str
    pool: Pool
    kube: Kube
    settings: NodeSettings
    services: PodServices
    pods: dict[str, PodRunner] = field(default_factory=dict)
    reclaiming: bool = False
    registered_at: float = 0.0
    idle_since: float = 0.0
    _heartbeat: asyncio.Task[None] | None = None

    async def register(self) -> None:
        """Create the Node object, report Ready and keep the Lease renewed."""
        await self._create("/api/v1/nodes", self._node_object())
        await self._report_ready()
        await self._create("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", self._lease())
        self.registered_at = self.idle_since = asyncio.get_running_loop().time()
        self._heartbeat = asyncio.create_task(self._renew(), name=f"lease {self.name}")

    def assign(self, pod: Object) -> None:
        """Take notice of a pod bound to this node, new or changed."""
        uid = pod["metadata"]["uid"]
        if uid in self.pods:
            self.pods[uid].observe(pod)
        elif pod.get("status", {}).get("phase") not in _TERMINAL:
            self._admit(pod)

    def _admit(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        facts = PodFacts(pod_ip=self.settings.take_address(), host_ip=NODE_ADDRESS)
        runner = self.pods[uid] = PodRunner(self.services, pod, self.settings.pods_folder / uid, facts)
        runner.start()
        if pod["metadata"].get("deletionTimestamp"):
            runner.observe(pod)

    def forget(self, uid: str) -> None:
        """The pod object is gone: kill what is left of it and remove its files."""
        runner = self.pods.pop(uid, None)
        if runner is None:
            return
        runner.vanish()
        self.services.events.forget(uid)
        runner.discard()

    def vanish(self) -> None:
        """Power off: processes die, nothing is reported any more."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
        for runner in self.pods.values():
            runner.vanish()

    @property
    def is_idle(self) -> bool:
        """No pod of this node is still running."""
        return all(runner.finished.is_set() for runner in self.pods.values())

    async def delete_object(self) -> None:
        """Remove Node and Lease from the API server, as a cloud's node controller does."""
        for path in (
            f"/api/v1/nodes/{self.name}",
            f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self.name}",
        ):
            await _until_reachable(lambda path=path: self.kube.delete(path))  # type: ignore[misc]

    async def _create(self, path: str, body: Object) -> None:
        try:
            await _until_reachable(lambda: self.kube.create(path, body))
        except KubeError as error:
            if error.status != 409:
                raise

    async def _report_ready(self) -> None:
        status = self._status()
        await _until_reachable(
            lambda: self.kube.patch(f"/api/v1/nodes/{self.name}/status", {"status": status}, STRATEGIC)
        )

    async def _renew(self) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{self.name}"
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self.kube.patch(path, {"spec": {"renewTime": utc_now_micro()}})
            except (*UNREACHABLE, KubeError) as error:
                log.debug("lease of %s: %s", self.name, error)
                await asyncio.sleep(_RETRY_SECONDS)

    def _node_object(self) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {**self.pool.node_labels, "kubernetes.io/hostname": self.name}},
            "spec": {
                "providerID": f"evalfleet-host://{self.name}",
                "taints": [parse_taint(text) for text in self.pool.taints],
            },
        }

    def _status(self) -> Object:
        now = utc_now()
        resources = {"cpu": self.pool.cpu, "memory": self.pool.memory, "pods": "110", "ephemeral-storage": "100Gi"}
        if self.pool.gpus:
            resources[GPU_RESOURCE] = str(self.pool.gpus)
        identity = uuid.uuid5(uuid.NAMESPACE_DNS, self.name).hex
        return {
            "capacity": resources,
            "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}, {"type": "Hostname", "address": self.name}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.settings.kubelet_port}},
            "conditions": [
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": now,
                }
                for kind, (status, reason, message) in _HEALTHY.items()
            ],
            "nodeInfo": {
                "kubeletVersion": self.settings.kubelet_version,
                "containerRuntimeVersion": "host://1",
                "operatingSystem": "linux",
                "architecture": "amd64",
                "osImage": "this machine",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": identity,
                "systemUUID": identity,
                "bootID": identity,
            },
        }

    def _lease(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": _LEASE_SECONDS,
                "renewTime": utc_now_micro(),
            },
        }


async def _until_reachable(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat a call while the API server is down."""
    while True:
        try:
            await call()
        except UNREACHABLE:
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return
