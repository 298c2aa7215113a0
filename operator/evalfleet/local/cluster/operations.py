"""What a running cluster can be asked for over its control socket."""

import asyncio
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from evalfleet.kube.client import wait_until_answered
from evalfleet.local.cluster import control
from evalfleet.local.cluster.controlplane.servers import ControlPlane
from evalfleet.local.cluster.hostnode.fleet import HostNodeFleet
from evalfleet.local.cluster.hostnode.node import HostNode
from evalfleet.local.cluster.hostnode.pod import PodRunner
from evalfleet.local.cluster.kwok import simulate_nodes
from evalfleet.local.cluster.reclaim import reclaim


@dataclass(frozen=True)
class Operations:
    """The commands of one cluster; `facts` are what `status` says of the cluster itself."""

    facts: control.Answer
    control_plane: ControlPlane
    fleet: HostNodeFleet
    stopping: asyncio.Event

    async def handle(self, message: control.Answer) -> control.Answer:
        """Execute one command.

        Raises:
            ValueError: the command, or what it names, does not exist.
        """
        commands = {
            "status": self._status,
            "reclaim": self._reclaim,
            "restart": self._restart,
            "scale": self._scale,
            "simulate": self._simulate,
            "down": self._down,
        }
        command = message.get("command")
        if command not in commands:
            raise ValueError(f"unknown command {command!r}")
        return await commands[command](message)

    async def _status(self, _: control.Answer) -> control.Answer:
        return {
            **self.facts,
            "servers": self.control_plane.pids(),
            "nodes": [_node_summary(node) for node in self.fleet.nodes.values()],
            "launching": {name: count for name, count in self.fleet.launching.items() if count},
        }

    async def _reclaim(self, message: control.Answer) -> control.Answer:
        node = self.fleet.nodes.get(message["node"])
        if node is None:
            raise ValueError(f"no node {message['node']!r}; there are: {', '.join(sorted(self.fleet.nodes)) or 'none'}")
        if node.reclaiming:
            raise ValueError(f"node {node.name} is being reclaimed already")
        return asdict(await reclaim(self.fleet, node, float(message["notice"])))

    async def _restart(self, message: control.Answer) -> control.Answer:
        server = self.control_plane.servers.get(message["server"])
        if server is None:
            raise ValueError(f"no server {message['server']!r}")
        await server.restart(float(message.get("down", 0)))
        await wait_until_answered(self.fleet.kube, "/readyz")
        return {"pid": self.control_plane.pids()[server.name]}

    async def _scale(self, message: control.Answer) -> control.Answer:
        pool = self.fleet.pools.get(message["pool"])
        if pool is None:
            raise ValueError(f"no pool {message['pool']!r}; there are: {', '.join(self.fleet.pools)}")
        changed = replace(pool, count=int(message["count"]), max_count=int(message["max"]))
        self.fleet.pools[pool.name] = changed
        self.fleet.changed.set()
        return {"pool": pool.name, "count": changed.count, "max": changed.limit}

    async def _simulate(self, message: control.Answer) -> control.Answer:
        kubeconfig, program = Path(self.facts["kubeconfig"]), Path(message["program"])
        count = int(message["count"])
        await simulate_nodes(self.control_plane, self.fleet.kube, kubeconfig, program=program, count=count)
        return {"simulated": count}

    async def _down(self, _: control.Answer) -> control.Answer:
        asyncio.get_running_loop().call_soon(self.stopping.set)
        return {"stopping": True}


def _node_summary(node: HostNode) -> control.Answer:
    return {
        "name": node.name,
        "pool": node.pool.name,
        "capacityType": node.pool.capacity_type,
        "gpus": node.pool.gpus,
        "reclaiming": node.reclaiming,
        "pods": [_pod_summary(runner) for runner in node.pods.values()],
    }


def _pod_summary(runner: PodRunner) -> control.Answer:
    metadata = runner.pod["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "podIP": runner.facts.pod_ip,
        "folder": str(runner.folder),
        "finished": runner.finished.is_set(),
        "pids": runner.pids(),
    }
