"""Random faults from everywhere at once, for a while: every job ends as an undisturbed one, and the bill is right."""

import random
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from cluster_client import Client
from kubelet_statuses import NO_DEVICES, creating, ended, evicted, rejected, running, waiting
from lifecycle import QUICK_CLAIMS_IMAGE, kill_worker, running_workers, samples, toy_units
from operator_bench import API, Bench, OperatorProcess, bench, has, policy, running_operator, wait_until
from poison import steady_pool
from scripted_nodes import TOLERATION, Script, ScriptedNodes, after

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster]

Object = dict[str, Any]
PRICE = Decimal("36.00")
"""An hour; a hundredth a second."""
UNITS = 4
TICK_SECONDS = 2.0
LOST_SECONDS = 120.0
"""What a pod may be paid beyond its end that no operator saw."""
PATIENCE_SECONDS = 600.0
MACHINES = 4
KILLS_SECONDS = 300.0
"""After that the operator lives: its memory is watched."""
GROWTH_BYTES = 2.5 * 2**20
"""Most that the operator may grow in 25 minutes: a megabyte in ten."""

SCRIPTS: dict[str, Script] = {
    "rejected": (after(0, rejected("UnexpectedAdmissionError", NO_DEVICES)),),
    "out of cpu": (after(0, rejected("OutOfcpu", "Node didn't have enough resource: cpu")),),
    "evicted": (after(0, running), after(1, evicted())),
    "evicted at once": (after(0, evicted("The node was low on resource: memory. ")),),
    "hangs": (after(0, creating),),
    "no registry": (after(0, waiting("RegistryUnavailable", "registry is down")),),
    "init fails": (after(0, waiting("CrashLoopBackOff", "back-off 10s", container="setup")),),
    "unsuitable": (after(0, running), after(1, ended(69))),
    "lost": (after(0, running), after(1, ended(137, "ContainerStatusUnknown"))),
    "silent": (after(0, running),),
}


@dataclass
class Bill:
    """What worker pods cost by their own times: from binding to end, as they are seen."""

    since: dict[str, datetime] = field(default_factory=dict)
    until: dict[str, datetime] = field(default_factory=dict)

    def look(self, pods: list[Object], now: datetime) -> None:
        """Note all worker pods; one that is gone has ended when it was last seen."""
        for pod in pods:
            uid, status = pod["metadata"]["uid"], pod.get("status") or {}
            bound = [c for c in status.get("conditions") or [] if c["type"] == "PodScheduled" and c["status"] == "True"]
            if bound and uid not in self.since:
                self.since[uid] = datetime.fromisoformat(bound[0]["lastTransitionTime"])
            if uid in self.since and (status.get("phase") not in ("Succeeded", "Failed") or uid not in self.until):
                self.until[uid] = now

    @property
    def cost(self) -> Decimal:
        """All of it."""
        seconds = sum((self.until[uid] - since).total_seconds() for uid, since in self.since.items())
        return PRICE * Decimal(str(round(seconds, 3))) / 3600


@dataclass
class Soak:
    """A namespace whose machines, workers and operator fail at random."""

    place: Bench
    operator: OperatorProcess
    nodes: ScriptedNodes
    draw: random.Random
    bill: Bill = field(default_factory=Bill)
    done: list[str] = field(default_factory=list)

    def wreck(self, *, operator: bool) -> None:
        """One fault; whether the operator may be its victim."""
        faults: list[Callable[[], str]] = [self._node, self._node, self._node, self._worker]
        self.done.append(self.draw.choice([*faults, *([self._operator] if operator else [])])())

    def _node(self) -> str:
        """A machine fails in another way from now on."""
        name, script = self.draw.choice(sorted(self.nodes.nodes)), self.draw.choice(sorted(SCRIPTS))
        self.nodes.nodes[name].script = SCRIPTS[script]
        return f"{name}: {script}"

    def _worker(self) -> str:
        """A worker that works is killed."""
        found = [pod for pod in running_workers(self.place, "") if pod["spec"]["nodeName"] not in self.nodes.nodes]
        if not found:
            return "no worker to kill"
        victim = self.draw.choice(sorted(found, key=lambda pod: str(pod["metadata"]["name"])))
        kill_worker(self.place, victim)
        return f"killed {victim['metadata']['name']}"

    def _operator(self) -> str:
        """The operator is killed, and another one comes."""
        self.operator.end(signal.SIGKILL)
        self.operator.start()
        return "killed the operator"

    def look(self) -> None:
        """Keep the bill."""
        self.bill.look(self.workers(), datetime.now(UTC))

    def workers(self) -> list[Object]:
        """All worker pods."""
        path = f"/api/v1/namespaces/{self.place.namespace}/pods?labelSelector=evalfleet.io/role=work"
        return list(self.place.client.get(path)["items"])

    def memory(self) -> float:
        """Resident bytes of the operator."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operator.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith("process_resident_memory")))


@pytest.fixture
def soak(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Soak]:
    with (
        bench(shared_cluster, cluster_client, "soak", tmp_path_factory.mktemp("soak")) as place,
        ScriptedNodes(shared_cluster.kubeconfig) as nodes,
        running_operator(place) as operator,
    ):
        use_machines_that_fail(place)
        yield Soak(place, operator, nodes, random.Random(20260101))


def use_machines_that_fail(place: Bench) -> None:
    """One spot pool of machines that work and of machines that follow scripts, and on-demand ones that work."""
    (spot,) = policy(place.folder)["spec"]["pools"]
    spot |= {"pricePerHour": str(PRICE), "tolerations": [TOLERATION], "expectedStartupSeconds": 3}
    path = f"{API}/namespaces/{place.namespace}/scalingpolicies/default"
    place.client.patch(path, {"spec": {"pools": [spot, {**steady_pool(), "pricePerHour": str(PRICE)}]}})


def run_soak(soak: Soak, jobs: int, seconds: float) -> None:
    """So many jobs while so long something fails every few seconds; then all of them end as if nothing had been."""
    place = soak.place
    place.create("calm", evaluations=[toy_units(UNITS, 0.2)])
    undisturbed = samples(place.wait_for("calm", "Succeeded"))
    for number in range(MACHINES):
        soak.nodes.add(f"soak-{number}", SCRIPTS["rejected"], pool="spot")
    began, created, wreck_at = time.monotonic(), 0, 0.0
    settled: float | None = None
    while (passed := time.monotonic() - began) < seconds:
        if created < jobs and passed >= created * seconds / (2 * jobs):
            place.create(f"job-{created}", **TROUBLED)
            created += 1
        if passed >= wreck_at:
            soak.wreck(operator=passed < KILLS_SECONDS)
            wreck_at = passed + soak.draw.uniform(1.0, 4.0)
        soak.look()
        if settled is None and passed > 1.2 * KILLS_SECONDS:
            settled = soak.memory()
        time.sleep(0.5)
    if settled is not None:
        assert soak.memory() - settled < GROWTH_BYTES
    for name in list(soak.nodes.nodes):
        soak.nodes.remove(name)
    finish(soak, [f"job-{number}" for number in range(created)], undisturbed)


TROUBLED: Object = {
    "evaluations": [toy_units(UNITS, 0.2)],
    "maxWorkers": 2,
    "backoffLimit": 100,
    "worker": {"image": QUICK_CLAIMS_IMAGE},
}


def finish(soak: Soak, names: list[str], undisturbed: dict[str, bytes]) -> None:
    """Every job succeeds with the same samples, and the ledger holds what its workers cost."""
    place, pending = soak.place, list(names)

    def all_succeeded() -> bool:
        soak.look()
        found = [place.client.get(place.job_path(name)) for name in pending]
        pending[:] = [job["metadata"]["name"] for job in found if not has(job, "Succeeded")]
        return not pending

    wait_until(all_succeeded, f"{pending} never ended; {soak.done}", PATIENCE_SECONDS)
    for name in names:
        assert samples(place.client.get(place.job_path(name))) == undisturbed, (name, soak.done)
    assert_paid(soak)
    assert "Traceback" not in soak.operator.log.read_text("utf-8")


def assert_paid(soak: Soak) -> None:
    """Within a tick for every pod; what ended while no operator looked may cost a little more, never less."""
    path = f"{API}/namespaces/{soak.place.namespace}/scalingpolicies/default"
    wait_until(lambda: not soak.workers(), "workers are left")
    time.sleep(2 * TICK_SECONDS)  # the status follows the ledger
    spent = Decimal(soak.place.client.get(path)["status"]["cost"]["spentMonth"])
    kills = soak.done.count("killed the operator")
    tick = PRICE / 3600 * Decimal(str(TICK_SECONDS * len(soak.bill.since)))
    unseen = PRICE / 3600 * Decimal(str(LOST_SECONDS * kills))
    assert soak.bill.cost - tick <= spent <= soak.bill.cost + tick + unseen, (soak.bill.cost, spent, soak.done)


@pytest.mark.timeout(900)
def test_jobs_survive_a_minute_in_which_everything_fails(soak: Soak) -> None:
    run_soak(soak, jobs=3, seconds=30.0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_jobs_survive_half_an_hour_in_which_everything_fails(soak: Soak) -> None:
    run_soak(soak, jobs=24, seconds=1800.0)
