"""ScalingPolicies that the schema takes and no sane person writes: their jobs say why, those of others run on."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import Client
from operator_bench import Bench, OperatorProcess, bench, condition, has, policy, running_operator
from poison import PATIENCE_SECONDS, assert_sane, assert_succeeds, steady_pool, wait_until_stated

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "poison-policy", tmp_path_factory.mktemp("poison-policy")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


@pytest.fixture(autouse=True)
def cleared(place: Bench) -> Iterator[None]:
    yield
    place.kubectl("delete", "evj", "--all", "--wait", "--timeout=120s")


def policy_path(place: Bench, name: str = "") -> str:
    return place.job_path(name).replace("evaluationjobs", "scalingpolicies")


def create_policy(place: Bench, name: str, spec: Object) -> None:
    manifest = policy(place.folder / "runs", **spec)
    manifest["metadata"]["name"] = name
    place.client.create(policy_path(place), manifest)


def pools(**fields: Any) -> Object:
    return {"pools": [steady_pool(**fields)]}


NEVER_RUN: dict[str, tuple[Object, str, str]] = {
    "no-room": (pools(maxWorkers=0), "Admitted", "NoPoolAllowed"),
    "no-worker-at-all": ({**pools(), "limits": {"maxWorkers": 0}}, "Ready", "LimitReached"),
    "free-of-charge": ({**pools(), "limits": {"maxCostPerHour": "0"}}, "Ready", "LimitReached"),
    "a-day-for-nothing": ({**pools(), "limits": {"maxCostPerDay": "0"}}, "Ready", "LimitReached"),
    "label": (pools(nodeSelector={"not a label!": "x"}), "Stalled", "ObjectRefused"),
    "resource": (pools(accelerator={"resourceName": "-/-"}), "Stalled", "ObjectRefused"),
    "unknown-gpu": (pools(accelerator={"resourceName": "nobody.example/gpu"}), "WorkersReady", "WaitingForNode"),
    "toleration": (pools(tolerations=[{"operator": "Exists", "value": "x"}]), "Stalled", "ObjectRefused"),
    "one-second": ({**pools(), "sla": {"defaultCompletionSeconds": 1}}, "Stalled", "DeadlineInfeasible"),
    "queue": ({**pools(), "queueName": "nobody"}, "Accepted", "NotSupported"),
    "no-model": (
        {**pools(), "security": {"allowUnsafeCode": True, "allowedModelUriPrefixes": ["s3://ours/"]}},
        "Accepted",
        "ModelForbidden",
    ),
}  # fmt: skip
RUN_ALL_THE_SAME: dict[str, Object] = {
    "dearest": pools(pricePerHour="999999999.9999"),
    "for-nothing": {**pools(pricePerHour="0"), "limits": {"maxCostPerHour": "0", "maxCostPerMonth": "0"}},
    "half-a-century": {**pools(), "sla": {"defaultCompletionSeconds": 2_147_483_647, "defaultQueueWaitSeconds": 0}},
    "thirty-two": {"pools": [steady_pool(name=f"{n:02}" + "p" * 61, priority=n - 1000) for n in range(32)]},
    "thousands": pools(maxWorkers=1000, expectedStartupSeconds=7200),
    "slow": {**pools(), "scaleUp": {"maxWorkersPerMinute": 1}, "scaleDown": {"stabilizationWindowSeconds": 3600}},
    "p" * 63: pools(),
}


def test_jobs_of_absurd_policies_say_why_and_their_neighbours_run(place: Bench, operator: OperatorProcess) -> None:
    everyone = {name: spec for name, (spec, _, _) in NEVER_RUN.items()} | RUN_ALL_THE_SAME
    for name, spec in everyone.items():
        create_policy(place, name, spec)
        place.create(name, policyName=name)
    place.create("neighbour")
    assert_succeeds(place, "neighbour")
    for name in RUN_ALL_THE_SAME:
        assert_succeeds(place, name)
    for name, (_, kind, reason) in NEVER_RUN.items():
        wait_until_stated(place, name, kind, reason)
    cost = place.client.get(place.job_path("dearest"))["status"]["cost"]
    assert float(cost["spent"]) > 1000
    assert_sane(operator, 2 * len(everyone))


LONGEST = ".".join(["p" * 62] * 4) + "pp"


def test_a_policy_with_the_longest_name_is_ready_though_no_job_can_name_it(
    place: Bench, operator: OperatorProcess
) -> None:
    create_policy(place, LONGEST, pools())
    place.client.wait(policy_path(place, LONGEST), lambda found: has(found, "Ready"), PATIENCE_SECONDS)
    assert_sane(operator, 2 * len(NEVER_RUN | RUN_ALL_THE_SAME))


def test_a_policy_that_becomes_absurd_and_sane_again_lets_its_job_go_on(
    place: Bench, operator: OperatorProcess
) -> None:
    create_policy(place, "moody", pools(nodeSelector={"not a label!": "x"}))
    place.create("moody", policyName="moody")
    refused = wait_until_stated(place, "moody", "Stalled", "ObjectRefused")
    assert "not a label!" in condition(refused, "Stalled")["message"]
    place.client.patch(policy_path(place, "moody"), {"spec": pools()})
    assert_succeeds(place, "moody")
