"""Nodes follow Pending pods, as with Karpenter: `decide` is pure, `Autoscaler` applies it every second."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from evalfleet.kube.client import UNREACHABLE, KubeError, Object
from evalfleet.local.cluster.config import GPU_RESOURCE, Pool, parse_taint
from evalfleet.local.cluster.hostnode.fleet import HostNodeFleet
from evalfleet.local.cluster.hostnode.node import HostNode
from evalfleet.manifests.quantities import parse_quantity

log = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
# The scheduler needs a moment to use a node that has just registered; until then its pods still look unschedulable.
_SETTLE_SECONDS = 10.0

Resources = dict[str, Decimal]


@dataclass(frozen=True)
class PoolState:
    """One pool as it is now: nodes alive (launching ones included), of which some have all their capacity to come."""

    pool: Pool
    alive: int
    coming: int


@dataclass
class _Room:
    pool: Pool
    free: Resources = field(default_factory=dict)


def decide(pending: Sequence[Object], pools: Sequence[PoolState]) -> list[str]:
    """Names of the pools that get one more node each, first for their kept count, then for pods that fit nowhere."""
    launches = [state.pool.name for state in pools for _ in range(state.pool.count - state.alive)]
    rooms = [_Room(state.pool, _capacity(state.pool)) for state in pools for _ in range(state.coming)]
    by_name = {state.pool.name: state.pool for state in pools}
    rooms += [_Room(by_name[name], _capacity(by_name[name])) for name in launches]
    for pod in pending:
        if any(_place(pod, room) for room in rooms):
            continue
        for state in pools:
            room = _Room(state.pool, _capacity(state.pool))
            if state.alive + launches.count(state.pool.name) < state.pool.limit and _place(pod, room):
                launches.append(state.pool.name)
                rooms.append(room)
                break
    return launches


def is_unschedulable(pod: Object) -> bool:
    """The scheduler looked at the pod and found no node."""
    if pod["spec"].get("nodeName") or pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = pod.get("status", {}).get("conditions") or []
    return any(item["type"] == "PodScheduled" and item.get("reason") == "Unschedulable" for item in conditions)


def _place(pod: Object, room: _Room) -> bool:
    needed = _requests(pod)
    if not fits_pool(pod, room.pool) or any(
        room.free.get(name, Decimal(0)) < amount for name, amount in needed.items()
    ):
        return False
    for name, amount in needed.items():
        room.free[name] -= amount
    return True


def fits_pool(pod: Object, pool: Pool) -> bool:
    """Node selector, required node affinity and tolerations allow the pool."""
    spec, labels = pod["spec"], pool.node_labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required and not any(_matches(term, labels) for term in required["nodeSelectorTerms"]):
        return False
    return all(_tolerates(spec.get("tolerations") or [], parse_taint(taint)) for taint in pool.taints)


def _matches(term: Object, labels: dict[str, str]) -> bool:
    return all(_holds(expression, labels) for expression in term.get("matchExpressions") or [])


def _holds(expression: Object, labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or []
    outcomes = {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return outcomes.get(expression["operator"], False)


def _tolerates(tolerations: Sequence[Object], taint: dict[str, str]) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Object, taint: dict[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def _capacity(pool: Pool) -> Resources:
    amounts = {"cpu": pool.cpu, "memory": pool.memory, GPU_RESOURCE: str(pool.gpus), "ephemeral-storage": "100Gi"}
    return {name: parse_quantity(text) for name, text in amounts.items()}


def _requests(pod: Object) -> Resources:
    totals: Resources = {}
    for container in pod["spec"]["containers"]:
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            totals[name] = totals.get(name, Decimal(0)) + parse_quantity(str(amount))
    return totals


class Autoscaler:
    """Applies `decide`, and removes nodes that have been idle for long."""

    def __init__(self, fleet: HostNodeFleet) -> None:
        self._fleet = fleet
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._scale_up()
            await self._scale_down()
            self._fleet.changed.clear()
            try:
                await asyncio.wait_for(self._fleet.changed.wait(), _TICK_SECONDS)
                await asyncio.sleep(_TICK_SECONDS / 5)  # several changes at once are one decision
            except TimeoutError:
                pass

    def _scale_up(self) -> None:
        pending = [pod for pod in self._fleet.pods.values() if is_unschedulable(pod)]
        for name in decide(pending, [self._state(pool) for pool in self._fleet.pools.values()]):
            log.info("starting a node of pool %s", name)
            task = asyncio.create_task(self._fleet.launch(self._fleet.pools[name]))
            self._tasks.add(task)
            task.add_done_callback(self._launched)

    def _launched(self, task: "asyncio.Task[HostNode]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a node could not be started: %s", task.exception())

    def _state(self, pool: Pool) -> PoolState:
        alive, launching = self._fleet.alive(pool), self._fleet.launching[pool.name]
        now = asyncio.get_running_loop().time()
        fresh = [node for node in alive if not node.pods and now - node.registered_at < _SETTLE_SECONDS]
        return PoolState(pool, alive=len(alive) + launching, coming=launching + len(fresh))

    async def _scale_down(self) -> None:
        now = asyncio.get_running_loop().time()
        for node in list(self._fleet.nodes.values()):
            if not node.is_idle:
                node.idle_since = now
            pool = self._fleet.pools[node.pool.name]
            spare = not node.reclaiming and len(self._fleet.alive(pool)) > pool.count
            if spare and now - node.idle_since >= pool.idle_seconds:
                log.info("removing idle node %s", node.name)
                try:
                    await self._fleet.remove(node)
                except (*UNREACHABLE, KubeError) as error:
                    log.warning("remove %s: %s", node.name, error)
