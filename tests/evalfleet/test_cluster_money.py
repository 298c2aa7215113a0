"""Deadlines, budgets and the bill on a real control plane: what is promised, refused, stopped and paid."""

import json
import re
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cluster_client import Client
from lifecycle import done_units, running_workers, toy_units, wait_for_workers
from operator_bench import (
    Bench,
    OperatorProcess,
    bench,
    condition,
    has,
    policy,
    running_operator,
    terminal,
    wait_until,
)

from evalfleet.local.cluster import LocalCluster
from evalfleet_scaling.spend import SpendLedger
from evalfleet_scaling.spend_document import ledger_from_document

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Object = dict[str, Any]
SECONDS_OFF = 4.0
"""A pod's bill may differ from its stamps by whole seconds of two stamps, one settlement and one look."""
CENTS = 0.00006
"""Rounding of a status."""


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "money", tmp_path_factory.mktemp("money")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place, EVALFLEET_LEADER_ELECTION="false") as process:  # a killed one's Lease takes 15 s
        yield process


def node_pool(name: str, kind: str = "OnDemand", node: str = "spot", **fields: Any) -> Object:
    """A pool whose machines are there at once, whatever it says of their kind."""
    return {
        "name": name,
        "capacityType": kind,
        "nodeSelector": {"karpenter.sh/nodepool": node},
        "pricePerHour": "3.00",
        "maxWorkers": 4,
        "expectedStartupSeconds": 3,
        **fields,
    }


def create_policy(place: Bench, name: str, *pools: Object, **spec: Any) -> str:
    """Create a policy; returns its path."""
    manifest = policy(place.folder / "runs", pools=list(pools), **spec)
    manifest["metadata"]["name"] = name
    path = place.job_path().replace("evaluationjobs", "scalingpolicies")
    place.client.create(path, manifest)
    return f"{path}/{name}"


def ledger_path(place: Bench, name: str) -> str:
    return f"/api/v1/namespaces/{place.namespace}/configmaps/spend.{place.namespace}.{name}"


def ledger(place: Bench, name: str) -> SpendLedger:
    """The stored ledger of a policy, an empty one before it is written."""
    stored = place.client.find(ledger_path(place, name))
    return ledger_from_document(json.loads(stored["data"]["ledger.json"])) if stored else SpendLedger()


def wait_until_paid(place: Bench, name: str, by: str) -> tuple[Object, SpendLedger]:
    """The job and the ledger as soon as nothing is open and the status shows the ledger's sum."""
    uid = place.client.get(place.job_path(name))["metadata"]["uid"]

    def is_final() -> bool:
        written = ledger(place, by)
        cost = place.client.get(place.job_path(name))["status"].get("cost") or {}
        if written.open or uid not in written.runs or "spent" not in cost:
            return False
        return abs(float(cost["spent"]) - float(written.runs[uid].cost)) <= CENTS

    wait_until(is_final, f"the cost of {name} never became that of its ledger")
    return place.client.get(place.job_path(name)), ledger(place, by)


class Meter:
    """What worker pods of a job cost by their own stamps, as far as somebody looks."""

    def __init__(self, place: Bench, name: str) -> None:
        self._place, self._name = place, name
        self.bound: dict[str, datetime] = {}
        self.ended: dict[str, datetime] = {}

    def look(self) -> bool:
        """Look once; whether a worker is still there."""
        pods = self._place.pods(self._name)
        workers = [pod for pod in pods if pod["metadata"]["labels"].get("evalfleet.io/role") == "work"]
        for pod in workers:
            self._note(pod)
        here = {pod["metadata"]["uid"] for pod in workers}
        for uid in self.bound.keys() - here - self.ended.keys():
            self.ended[uid] = datetime.now(UTC)
        return bool(here)

    def seconds(self) -> dict[str, float]:
        """Paid seconds by pod."""
        assert self.bound.keys() == self.ended.keys()
        return {uid: (self.ended[uid] - since).total_seconds() for uid, since in self.bound.items()}

    def _note(self, pod: Object) -> None:
        uid, status = pod["metadata"]["uid"], pod.get("status") or {}
        for entry in status.get("conditions") or []:
            if (entry["type"], entry["status"]) == ("PodScheduled", "True"):
                self.bound[uid] = datetime.fromisoformat(entry["lastTransitionTime"])
        for container in status.get("containerStatuses") or []:
            if "terminated" in container["state"]:
                self.ended[uid] = datetime.fromisoformat(container["state"]["terminated"]["finishedAt"])


def test_an_operator_killed_in_the_middle_pays_every_worker_once(place: Bench, operator: OperatorProcess) -> None:
    create_policy(place, "killed", node_pool("spot", "Spot", pricePerHour="1.25"), node_pool("steady"))
    place.create("killed", policyName="killed", evaluations=[toy_units(24, 0.5)], maxWorkers=2)
    meter = Meter(place, "killed")
    place.wait("killed", lambda job: bool(meter.look() and done_units(job) >= 1))
    operator.end(signal.SIGKILL)
    wait_until(lambda: meter.look() and len(meter.bound) >= 1, "no worker works without the operator")
    operator.start()
    place.wait("killed", lambda job: not meter.look() and terminal(job))
    job, written = wait_until_paid(place, "killed", "killed")
    seconds, total = meter.seconds(), written.runs[job["metadata"]["uid"]]
    assert written.closed.keys() == seconds.keys()
    assert abs(total.worker_seconds - sum(seconds.values())) <= SECONDS_OFF * len(seconds)
    assert float(total.cost) == pytest.approx(1.25 * total.worker_seconds / 3600)
    scored = float(total.on_demand_equivalent) * 3600 / 3.0
    assert 0 < scored < total.worker_seconds  # start-up saves nothing, nor what nobody heard of
    assert float(job["status"]["cost"]["onDemandEquivalent"]) == pytest.approx(
        float(total.on_demand_equivalent), abs=3 * CENTS
    )
    (day,) = written.days.values()
    assert day == total


def test_an_infeasible_deadline_is_refused_with_one_that_is_accepted(place: Bench, operator: OperatorProcess) -> None:
    create_policy(place, "strict", node_pool("steady", maxWorkers=2))
    place.create(
        "hasty", policyName="strict", evaluations=[toy_units(20, 0.5)], maxWorkers=2, sla={"completionSeconds": 90}
    )
    refused = place.wait_for("hasty", "Admitted", "False", "DeadlineInfeasible")
    assert has(refused, "Stalled", reason="DeadlineInfeasible")
    assert not running_workers(place, "hasty")
    (named,) = re.findall(r"set sla.deadlineTime to (\S+) or later", condition(refused, "Admitted")["message"])
    place.patch("hasty", sla={"completionSeconds": None, "deadlineTime": named})
    admitted = place.wait_for("hasty", "Admitted", reason="Admitted")
    assert not has(admitted, "Stalled")
    place.client.delete(place.job_path("hasty"))


def test_a_budget_that_ends_stops_the_workers_in_words_and_a_larger_one_goes_on(
    place: Bench, operator: OperatorProcess
) -> None:
    create_policy(place, "dear", node_pool("spot", "Spot", pricePerHour="20.00"))
    place.create("poor", policyName="dear", evaluations=[toy_units(60, 1.0)], budget={"maxCost": "0.12"})
    wait_for_workers(place, "poor", 1)
    stopped = place.wait_for("poor", "Stalled", reason="BudgetExhausted")
    assert "budget" in condition(stopped, "Stalled")["message"]
    wait_until(lambda: not running_workers(place, "poor"), "a worker runs on without money")
    job, written = wait_until_paid(place, "poor", "dear")
    assert 0 < float(written.runs[job["metadata"]["uid"]].cost) <= 0.12
    assert not has(job, "Failed")
    place.patch("poor", budget={"maxCost": "50.00"})
    wait_for_workers(place, "poor", 1)
    place.client.delete(place.job_path("poor"))


def test_a_promise_that_the_policys_money_cannot_pay_is_not_made(place: Bench, operator: OperatorProcess) -> None:
    create_policy(place, "broke", node_pool("steady"), limits={"maxCostPerDay": "0.01"})
    place.create("promise", policyName="broke", evaluations=[toy_units(60, 1.0)], sla={"completionSeconds": 3600})
    job = place.wait_for("promise", "Admitted", "False", "BudgetTooSmall")
    assert "money limits" in condition(job, "Admitted")["message"]
    assert not running_workers(place, "promise")
    place.client.delete(place.job_path("promise"))


@pytest.mark.slow
def test_a_damaged_ledger_stops_decisions_and_stays_as_it_is_until_somebody_mends_it(
    place: Bench, operator: OperatorProcess
) -> None:
    path = create_policy(place, "damaged", node_pool("spot", "Spot"), node_pool("steady"))
    place.create("steady", policyName="damaged", evaluations=[toy_units(400, 1.0)])
    (pod,) = wait_for_workers(place, "steady", 1)
    wait_until(lambda: bool(ledger(place, "damaged").open), "its worker is not in the ledger")
    place.client.patch(ledger_path(place, "damaged"), {"data": {"ledger.json": "nonsense"}})
    place.patch("steady", maxWorkers=2)
    stalled = place.client.wait(path, lambda found: has(found, "Stalled", reason="LedgerUnreadable"))
    assert f"spend.{place.namespace}.damaged" in condition(stalled, "Stalled")["message"]
    place.create("later", policyName="damaged")
    place.wait_for("later", "Admitted", "False", "LedgerUnreadable")
    assert place.client.get(ledger_path(place, "damaged"))["data"] == {"ledger.json": "nonsense"}
    assert pod["metadata"]["uid"] in {one["metadata"]["uid"] for one in running_workers(place, "steady")}
    place.client.delete(ledger_path(place, "damaged"))
    place.client.wait(path, lambda found: has(found, "Ready") and not has(found, "Stalled"))
    wait_until(lambda: pod["metadata"]["uid"] in ledger(place, "damaged").open, "its worker is not paid any more")
    place.wait_for("later", "Admitted")
    place.client.delete(place.job_path("steady"))
    place.client.delete(place.job_path("later"))


@pytest.mark.slow
def test_a_deadline_that_spot_alone_cannot_keep_gets_on_demand_and_the_bill_is_final(
    place: Bench, operator: OperatorProcess
) -> None:
    never = {"node": "none-has-this-name", "pricePerHour": "1.00"}
    steady = node_pool("steady", node="on-demand", maxWorkers=2)
    create_policy(place, "mixed", node_pool("spot", "Spot", **never), steady)
    place.create(
        "due", policyName="mixed", evaluations=[toy_units(12, 2.0)], maxWorkers=2, sla={"completionSeconds": 61}
    )
    place.wait_for("due", "Admitted", "False", "DeadlineInfeasible")
    deadline = datetime.now(UTC) + timedelta(seconds=60 + 90)
    place.patch("due", sla={"completionSeconds": None, "deadlineTime": deadline.isoformat(timespec="seconds")})
    (pod, *_) = wait_for_on_demand(place, "due")
    assert pod["metadata"]["annotations"]["evalfleet.io/price-per-hour"] == "3.00"
    done = place.wait_for("due", "Succeeded")
    assert datetime.fromisoformat(done["status"]["completionTime"]) <= deadline
    job, written = wait_until_paid(place, "due", "mixed")
    total = written.runs[job["metadata"]["uid"]]
    assert float(total.cost) == pytest.approx(3.0 * total.worker_seconds / 3600)
    assert job["status"]["cost"]["currency"] == "USD"
    place.wait("due", lambda ended: ended["status"]["cost"]["projected"] == ended["status"]["cost"]["spent"])


def wait_for_on_demand(place: Bench, name: str) -> list[Object]:
    """Running worker pods on demand as soon as there is one."""
    found: list[Object] = []

    def started() -> bool:
        labels = "evalfleet.io/capacity-type"
        found[:] = [pod for pod in running_workers(place, name) if pod["metadata"]["labels"][labels] == "OnDemand"]
        return bool(found)

    wait_until(started, f"{name} never had a worker on demand")
    return found
