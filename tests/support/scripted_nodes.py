"""Nodes that no kubelet serves: their pods get from a script the statuses that a kubelet would write.

    with ScriptedNodes(cluster.kubeconfig) as nodes:
        node = nodes.add("bad-1", script=(after(0, running), after(2, evicted())))
        ...
        node.script = (after(0, running),)  # mended: pods that come from now on run
        node.is_reachable = False           # or: the machine is cut off, and everything on it stays as it was

Nodes are tainted with `TAINT`, so that only pods that tolerate it come. Pods of one node share its loopback address;
with `progress` somebody answers there as a worker does.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from cluster_client import STRATEGIC, ApiError, Client
from kubelet_statuses import Clock, Writer, clock, ended

Object = dict[str, Any]
TAINT = {"key": "evalfleet.test/scripted", "value": "true", "effect": "NoSchedule"}
TOLERATION = {"key": TAINT["key"], "operator": "Exists"}
POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 5.0
PROGRESS_PORT = 9464
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
HEALTHY = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}


@dataclass(frozen=True)
class Step:
    """One status, so many seconds after the pod came to the node."""

    seconds: float
    write: Writer


Script = tuple[Step, ...]


def after(seconds: float, write: Writer) -> Step:
    """A step of a script."""
    return Step(seconds, write)


@dataclass
class ScriptedNode:
    """A node and what happens to the pods that come to it.

    Attributes:
        name: of the Node.
        pool: value of its label `karpenter.sh/nodepool`.
        script: what its next pods go through.
        address: of its pods.
        gpus: devices that it offers; 0 = they are unhealthy, none can be allocated.
        is_reachable: whether its heartbeats arrive and its pods get statuses.
        stop_seconds: from a pod's deletion to its end.
        clock: the node's own.
        progress: what a worker on it answers to `GET /progress`, None = nobody listens.
    """

    name: str
    pool: str
    script: Script
    address: str
    gpus: int = 8
    is_reachable: bool = True
    stop_seconds: float = 0.5
    clock: Clock = field(default_factory=clock)
    progress: Callable[[], Object] | None = None
    pods_seen: int = 0

    def body(self) -> Object:
        """The Node object as it registers."""
        labels = {"karpenter.sh/nodepool": self.pool, "kubernetes.io/hostname": self.name}
        return {"metadata": {"name": self.name, "labels": labels}, "spec": {"taints": [TAINT]}}

    def heartbeat(self) -> Object:
        """Its status as a living kubelet reports it."""
        room = {"cpu": "64", "memory": "256Gi", "pods": "110", "ephemeral-storage": "1Ti"}
        room["nvidia.com/gpu"] = str(self.gpus)
        now = clock()(0)
        conditions = [
            {"type": kind, "status": status, "reason": "Scripted", "lastHeartbeatTime": now}
            for kind, status in HEALTHY.items()
        ]
        return {"status": {"capacity": room, "allocatable": room, "conditions": conditions}}


@dataclass
class _Visit:
    """A pod on its node."""

    script: Script
    since: float
    done: int = 0
    dying_since: float | None = None


class ScriptedNodes:
    """All scripted nodes of a cluster; a thread of its own plays their kubelets until the end of the `with` block."""

    def __init__(self, kubeconfig: Path) -> None:
        self._client = Client(kubeconfig)
        self.nodes: dict[str, ScriptedNode] = {}
        self._visits: dict[str, _Visit] = {}
        self._servers: list[ThreadingHTTPServer] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, name="scripted nodes", daemon=True)
        self.problem: BaseException | None = None

    def __enter__(self) -> "ScriptedNodes":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        for server in self._servers:
            server.shutdown()
        for name in list(self.nodes):
            self.remove(name)
        if error is None and self.problem is not None:
            raise self.problem

    def add(self, name: str, script: Script, pool: str = "scripted", **fields: Any) -> ScriptedNode:
        """Register a node; pods may come at once."""
        node = ScriptedNode(name, pool, script, address=f"127.9.{len(self.nodes)}.9", **fields)
        if node.progress is not None:
            self._servers.append(_answer(node))
        self._client.create("/api/v1/nodes", node.body())
        self._beat(node)
        self.nodes[name] = node
        return node

    def cut_off(self, name: str) -> None:
        """The machine does not answer any more, and the control plane has just noticed."""
        self.nodes[name].is_reachable = False
        unknown = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown", "lastHeartbeatTime": clock()(0)}
        self._client.patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [unknown]}}, STRATEGIC)

    def remove(self, name: str) -> None:
        """The machine is gone, and its Node object with it."""
        self.nodes.pop(name, None)
        self._ignoring_absence(lambda: self._client.delete(f"/api/v1/nodes/{name}"))
        self._ignoring_absence(lambda: self._client.delete(f"{LEASES}/{name}"))

    def _play(self) -> None:
        beat_at = 0.0
        while not self._stop.wait(POLL_SECONDS):
            try:
                if time.monotonic() - beat_at > HEARTBEAT_SECONDS:
                    beat_at = time.monotonic()
                    for node in list(self.nodes.values()):
                        if node.is_reachable:
                            self._beat(node)
                self._look_after_pods()
            except (ApiError, OSError) as error:
                self.problem = error  # a busy API server; a script that is wrong shows in its test

    def _look_after_pods(self) -> None:
        nodes = dict(self.nodes)
        for pod in self._client.get("/api/v1/pods?resourceVersion=0")["items"] if nodes else ():
            node = nodes.get(pod["spec"].get("nodeName", ""))
            if node is not None and node.is_reachable:
                self._look_after(node, pod)

    def _look_after(self, node: ScriptedNode, pod: Object) -> None:
        now, uid = time.monotonic(), pod["metadata"]["uid"]
        if uid not in self._visits:
            self._visits[uid] = _Visit(node.script, now)
            node.pods_seen += 1
        visit = self._visits[uid]
        if pod["metadata"].get("deletionTimestamp"):
            visit.dying_since = visit.dying_since or now
            if now - visit.dying_since >= node.stop_seconds:
                self._end(node, pod)
            return
        due = [step for step in visit.script[visit.done :] if now - visit.since >= step.seconds]
        for step in due:
            self._write(pod, {**step.write(pod, node.clock), "podIP": node.address, "podIPs": [{"ip": node.address}]})
        visit.done += len(due)

    def _end(self, node: ScriptedNode, pod: Object) -> None:
        """What a kubelet does with a pod that somebody deletes: end it, say so, let the object go."""
        if pod["status"].get("phase") not in ("Succeeded", "Failed"):
            self._write(pod, ended(143)(pod, node.clock))
        self._ignoring_absence(lambda: self._client.delete(_path(pod), gracePeriodSeconds=0))

    def _write(self, pod: Object, status: Object) -> None:
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": status}
        self._ignoring_absence(lambda: self._client.patch(f"{_path(pod)}/status", body, STRATEGIC))

    def _beat(self, node: ScriptedNode) -> None:
        self._client.patch(f"/api/v1/nodes/{node.name}/status", node.heartbeat(), STRATEGIC)
        lease = {"holderIdentity": node.name, "leaseDurationSeconds": 40, "renewTime": clock()(0)[:-1] + ".000000Z"}
        if self._client.find(f"{LEASES}/{node.name}") is None:
            self._client.create(LEASES, {"metadata": {"name": node.name}, "spec": lease})
        else:
            self._client.patch(f"{LEASES}/{node.name}", {"spec": lease})

    @staticmethod
    def _ignoring_absence(call: Callable[[], object]) -> None:
        try:
            call()
        except ApiError as error:
            if error.status not in (404, 409):
                raise


def _path(pod: Object) -> str:
    return f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"


def _answer(node: ScriptedNode) -> ThreadingHTTPServer:
    """A server that answers as a worker does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert node.progress is not None
            body = json.dumps(node.progress()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: a test has enough to say."""

    server = ThreadingHTTPServer((node.address, PROGRESS_PORT), Handler)
    threading.Thread(target=server.serve_forever, name=f"progress of {node.name}", daemon=True).start()
    return server
