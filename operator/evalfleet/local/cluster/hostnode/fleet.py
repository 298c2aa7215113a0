"""All host nodes of a cluster: one watch on pods feeds them, pools and notices change their number."""

import asyncio
import itertools
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass

from evalfleet.kube.client import Changed, Kube, Listed, Object
from evalfleet.local.cluster.config import ClusterConfig, Pool
from evalfleet.local.cluster.hostnode.events import EventRecorder
from evalfleet.local.cluster.hostnode.node import HostNode, NodeSettings
from evalfleet.local.cluster.hostnode.pod import PodRunner, PodServices

log = logging.getLogger(__name__)

_POWER_OFF_SECONDS = 10.0
_LIST_SECONDS = 30.0


class HostNodeFleet:
    """Starts, feeds and removes the host nodes."""

    def __init__(self, kube: Kube, config: ClusterConfig, settings: NodeSettings, environment: dict[str, str]) -> None:
        self.kube, self.config = kube, config
        self.pools: dict[str, Pool] = {pool.name: pool for pool in config.pools}
        self.nodes: dict[str, HostNode] = {}
        self.pods: dict[str, Object] = {}
        self.changed = asyncio.Event()
        self.launching: dict[str, int] = {pool.name: 0 for pool in config.pools}
        self._settings, self._environment = settings, environment
        self._numbers = {pool.name: itertools.count(1) for pool in config.pools}

    async def follow_pods(self) -> None:
        """Hand every pod to its node, for ever."""
        async for event in self.kube.watch("/api/v1/pods"):
            if isinstance(event, Listed):
                self._replace(event.objects)
            else:
                self._apply(event)
            self.changed.set()

    async def follow_nodes(self) -> None:
        """A node whose object somebody deletes is switched off, as a cloud ends a machine that left the cluster."""
        async for event in self.kube.watch("/api/v1/nodes"):
            if isinstance(event, Listed):
                listed = {node["metadata"]["name"] for node in event.objects}
                gone = [name for name, node in self.nodes.items() if name not in listed and _is_old(node)]
            else:
                gone = [event.object["metadata"]["name"]] if event.gone else []
            for name in gone:
                if name in self.nodes and not self.nodes[name].reclaiming:
                    log.info("node %s was deleted; switching it off", name)
                    await self.remove(self.nodes[name])

    async def launch(self, pool: Pool) -> HostNode:
        """Start one node of `pool`; it registers after the pool's start-up time."""
        name = f"{pool.name}-{next(self._numbers[pool.name])}"
        self.launching[pool.name] += 1
        try:
            await asyncio.sleep(pool.startup_seconds)
            services = PodServices(self.kube, self.config.images, EventRecorder(self.kube, name), self._environment)
            node = HostNode(name, pool, self.kube, self._settings, services)
            await node.register()
            self.nodes[name] = node
        finally:
            self.launching[pool.name] -= 1
        for pod in self.pods.values():  # bound while the node registered
            self._assign(pod)
        self.changed.set()
        return node

    async def remove(self, node: HostNode) -> None:
        """Switch a node off and delete its object."""
        node.vanish()
        self.nodes.pop(node.name, None)
        for uid in list(node.pods):
            node.forget(uid)
        await node.delete_object()
        self.changed.set()

    def find_runner(self, namespace: str, name: str) -> PodRunner | None:
        """The runner of a pod that is on some host node."""
        for node in self.nodes.values():
            for runner in node.pods.values():
                metadata = runner.pod["metadata"]
                if (metadata["namespace"], metadata["name"]) == (namespace, name):
                    return runner
        return None

    def alive(self, pool: Pool) -> list[HostNode]:
        """Registered nodes of `pool` that are not being reclaimed."""
        return [node for node in self.nodes.values() if node.pool.name == pool.name and not node.reclaiming]

    async def power_off(self) -> None:
        """Switch all nodes off and wait until no process of theirs is left."""
        for node in self.nodes.values():
            node.vanish()
        runners = [runner for node in self.nodes.values() for runner in node.pods.values()]
        deadline = asyncio.get_running_loop().time() + _POWER_OFF_SECONDS
        while any(runner.pids() for runner in runners) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    def _replace(self, pods: list[Object]) -> None:
        listed = {pod["metadata"]["uid"]: pod for pod in pods}
        for uid in self.pods.keys() - listed.keys():
            self._forget(uid)
        self.pods = listed
        for pod in pods:
            self._assign(pod)

    def _apply(self, change: Changed) -> None:
        uid = change.object["metadata"]["uid"]
        if change.gone:
            self.pods.pop(uid, None)
            self._forget(uid)
        else:
            self.pods[uid] = change.object
            self._assign(change.object)

    def _assign(self, pod: Object) -> None:
        node = self.nodes.get(pod["spec"].get("nodeName", ""))
        if node is not None:
            node.assign(pod)

    def _forget(self, uid: str) -> None:
        for node in self.nodes.values():
            node.forget(uid)


def _is_old(node: HostNode) -> bool:
    """Not so new that a list asked for before it registered could miss it."""
    return asyncio.get_running_loop().time() - node.registered_at > _LIST_SECONDS


@dataclass
class Addresses:
    """One loopback address per pod, so that all of them may listen on the same port."""

    # Two clusters on one machine rarely meet: each draws its own 127.x.0.0/16.
    network: int = 0

    def __post_init__(self) -> None:
        self.network = self.network or random.randint(16, 250)
        self._hosts: Iterator[int] = itertools.cycle(range(257, 65_000))

    def take(self) -> str:
        """The next address; they repeat only after tens of thousands of pods."""
        high, low = divmod(next(self._hosts), 256)
        return f"127.{self.network}.{high}.{low}"
