"""Two replicas: one leads, the other takes over; a leader that ends in good order leaves at once."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from cluster_client import Client
from lifecycle import toy_units, wait_for_workers
from operator_bench import Bench, OperatorProcess, bench, running_operator, wait_until

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "failover", tmp_path_factory.mktemp("failover")) as made:
        yield made


@pytest.fixture
def replicas(place: Bench) -> Iterator[list[OperatorProcess]]:
    with ExitStack() as stack:
        yield [stack.enter_context(running_operator(place)) for _ in range(2)]
    place.client.delete(lease_path(place))


def lease_path(place: Bench) -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{place.namespace}/leases/evalfleet-operator"


def holder(place: Bench) -> str:
    lease = place.client.find(lease_path(place)) or {"spec": {}}
    return str(lease["spec"].get("holderIdentity") or "")


def leader_of(place: Bench, replicas: list[OperatorProcess]) -> tuple[OperatorProcess, OperatorProcess]:
    """The replica that leads, and the other one."""
    wait_until(lambda: bool(holder(place)), "nobody leads")
    name = holder(place)
    (leader,) = [one for one in replicas if one.process is not None and name.endswith(f"-{one.process.pid}")]
    (standby,) = [one for one in replicas if one is not leader]
    return leader, standby


def test_a_standby_takes_over_from_a_killed_leader_and_the_run_goes_on(
    place: Bench, replicas: list[OperatorProcess]
) -> None:
    leader, standby = leader_of(place, replicas)
    place.create("run", evaluations=[toy_units(12, 0.5)])
    wait_for_workers(place, "run", 1)
    first = holder(place)
    leader.end(signal.SIGKILL)
    killed = time.monotonic()
    place.create("next")
    wait_until(lambda: holder(place) not in ("", first), "nobody takes over")
    taken = time.monotonic() - killed
    place.wait_for("next", "Succeeded")
    place.wait_for("run", "Succeeded")
    assert taken >= 5  # not before the lease has run out: the old leader might live
    assert standby.process is not None
    assert standby.process.poll() is None


def test_a_leader_that_is_asked_to_end_gives_the_lease_back_and_the_standby_too_ends_on_sigterm(
    place: Bench, replicas: list[OperatorProcess]
) -> None:
    leader, standby = leader_of(place, replicas)
    first = holder(place)
    assert leader.end(signal.SIGTERM) == 0
    assert holder(place) != first
    wait_until(lambda: holder(place) not in ("", first), "nobody takes over")
    assert standby.end(signal.SIGTERM) == 0
    assert holder(place) == ""


def test_a_standby_ends_on_sigterm_without_touching_the_lease(place: Bench, replicas: list[OperatorProcess]) -> None:
    leader, standby = leader_of(place, replicas)
    first = holder(place)
    standby.wait_for("/healthz", 200)
    assert standby.end(signal.SIGTERM) == 0
    assert holder(place) == first
    assert leader.process is not None
    assert leader.process.poll() is None
