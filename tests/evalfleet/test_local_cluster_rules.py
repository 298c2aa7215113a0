"""The pure rules of the local cluster, as tables."""

import json
from decimal import Decimal
from typing import Any

import pytest

from evalfleet.local.cluster.autoscaler import PoolState, decide, fits_pool, is_unschedulable
from evalfleet.local.cluster.config import (
    DEFAULT_IMAGES,
    ClusterConfig,
    ConfigError,
    HostImage,
    Pool,
    parse_image,
    parse_pool,
    parse_taint,
)
from evalfleet.local.cluster.hostnode.environment import PodFacts, Sources, container_environment, expand
from evalfleet.local.cluster.hostnode.images import find_image
from evalfleet.local.cluster.hostnode.paths import Mount, rewrite, rewrite_argument
from evalfleet.local.cluster.hostnode.states import (
    ContainerView,
    PodView,
    Running,
    State,
    Terminated,
    Waiting,
    phase_of,
    pod_status,
)
from evalfleet.manifests.quantities import parse_quantity

Object = dict[str, Any]
MOUNTS = [Mount("/data", "/host/data"), Mount("/data/cache", "/host/cache"), Mount("/dev/termination-log", "/host/t")]
OK = Terminated(0, "Completed", "t", "t")
BAD = Terminated(1, "Error", "t", "t")
UP = Running("t")
NEW = Waiting("ContainerCreating")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/data", "/host/data"),
        ("/data/x/y", "/host/data/x/y"),
        ("/data/cache/x", "/host/cache/x"),
        ("/database", "/database"),
        ("/dev/termination-log", "/host/t"),
        ("file:///data/store", "file:///host/data/store"),
        ("s3://data/store", "s3://data/store"),
        ("/data:/data/cache", "/data:/data/cache"),
        ("", ""),
    ],
)
def test_values_at_or_below_a_mount_path_are_rewritten(value: str, expected: str) -> None:
    assert rewrite(value, MOUNTS) == expected


def test_options_with_a_path_are_rewritten_and_assignments_are_not() -> None:
    assert rewrite_argument("--store=/data/s", MOUNTS) == "--store=/host/data/s"
    assert rewrite_argument("STORE=/data/s", MOUNTS) == "STORE=/data/s"


@pytest.mark.parametrize(
    ("text", "number"),
    [("500m", "0.5"), ("64Gi", str(64 * 2**30)), ("1e3", "1000"), ("2", "2"), ("1.5M", "1500000"), ("3E", "3e18")],
)
def test_quantities(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


def test_references_expand_only_to_what_was_declared_before() -> None:
    assert expand("$(A)-$(B)-$$(A)-$", {"A": "1"}) == "1-$(B)-$(A)-$"


def test_resource_fields_are_rounded_up_to_their_divisor() -> None:
    container = {
        "resources": {"limits": {"memory": "1500Mi", "cpu": "1500m"}},
        "env": [
            {"name": "GIB", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
    }
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {}}
    assert container_environment(pod, container, Sources(), PodFacts("", "")) == {"GIB": "2", "CPU": "2"}


@pytest.mark.parametrize(
    ("states", "policy", "terminating", "phase"),
    [
        ([NEW], "Never", False, "Pending"),
        ([UP], "Never", False, "Running"),
        ([OK], "Never", False, "Succeeded"),
        ([BAD], "Never", False, "Failed"),
        ([BAD], "OnFailure", False, "Running"),
        ([OK], "OnFailure", False, "Succeeded"),
        ([OK], "Always", False, "Running"),
        ([UP, OK], "Never", False, "Running"),
        ([OK, BAD], "Never", False, "Failed"),
        ([UP], "Always", True, "Running"),
        ([OK], "Always", True, "Succeeded"),
        ([BAD], "Always", True, "Failed"),
        ([NEW], "Never", True, "Failed"),
    ],
)
def test_phases_follow_the_kubelet(states: list[State], policy: str, terminating: bool, phase: str) -> None:
    containers = {str(number): ContainerView(state) for number, state in enumerate(states)}
    assert phase_of(PodView(containers, terminating=terminating), policy) == phase


@pytest.mark.parametrize(
    ("init", "policy", "phase"),
    [(NEW, "Never", "Pending"), (UP, "Never", "Pending"), (BAD, "Never", "Failed"), (BAD, "OnFailure", "Pending")],
)
def test_a_pod_is_pending_while_it_initialises(init: State, policy: str, phase: str) -> None:
    view = PodView({"main": ContainerView(NEW)}, {"init": ContainerView(init)})
    assert phase_of(view, policy) == phase


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    before = [{"type": "Ready", "status": "True", "lastTransitionTime": "t0"}]
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]}
    pod = {"metadata": {}, "spec": spec, "status": {"conditions": before}}
    times = {
        condition["type"]: condition["lastTransitionTime"]
        for condition in pod_status(pod, PodView({"main": ContainerView(UP)}, pod_ip="127.0.0.1"), "t9")["conditions"]
    }
    assert (times["Ready"], times["Initialized"]) == ("t0", "t9")


def pending(name: str, gpus: int = 1, **spec: Any) -> Object:
    resources = {"requests": {"nvidia.com/gpu": str(gpus)}}
    return {"metadata": {"name": name}, "spec": {"containers": [{"resources": resources}], **spec}}


SPOT = Pool("spot", capacity_type="spot", count=0, max_count=2, gpus=2)
LAST = Pool("last", count=0, max_count=1, gpus=8)


@pytest.mark.parametrize(
    ("pods", "alive", "coming", "launches"),
    [
        (0, 0, 0, []),
        (1, 0, 0, ["spot"]),
        (2, 0, 0, ["spot"]),
        (3, 0, 0, ["spot", "spot"]),
        (5, 0, 0, ["spot", "spot", "last"]),
        (2, 1, 1, []),
        (3, 1, 1, ["spot"]),
        (1, 2, 0, ["last"]),
        (99, 2, 0, ["last"]),
    ],
)
def test_nodes_are_started_for_pods_that_fit_nowhere_in_pool_order(
    pods: int, alive: int, coming: int, launches: list[str]
) -> None:
    states = [PoolState(SPOT, alive, coming), PoolState(LAST, 0, 0)]
    assert decide([pending(str(number)) for number in range(pods)], states) == launches


def test_the_kept_count_is_restored_and_serves_pending_pods() -> None:
    kept = Pool("kept", count=2, max_count=3, gpus=1)
    assert decide([pending("a")], [PoolState(kept, alive=1, coming=0)]) == ["kept"]


@pytest.mark.parametrize(
    ("spec", "fits"),
    [
        ({}, False),
        ({"tolerations": [{"operator": "Exists"}]}, True),
        ({"tolerations": [{"key": "k", "value": "v"}]}, True),
        ({"tolerations": [{"key": "k", "value": "other"}]}, False),
        ({"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}]}, False),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"karpenter.sh/capacity-type": "spot"}}, True),
        ({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"karpenter.sh/capacity-type": "on-demand"}}, False),
    ],
)
def test_taints_and_selectors_decide_whether_a_pool_serves_a_pod(spec: Object, fits: bool) -> None:
    assert fits_pool(pending("p", **spec), Pool("p", capacity_type="spot", taints=("k=v:NoSchedule",))) is fits


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ({"key": "karpenter.sh/nodepool", "operator": "In", "values": ["p", "q"]}, True),
        ({"key": "karpenter.sh/nodepool", "operator": "NotIn", "values": ["p"]}, False),
        ({"key": "zone", "operator": "Exists"}, False),
        ({"key": "zone", "operator": "DoesNotExist"}, True),
    ],
)
def test_required_node_affinity_decides_too(expression: Object, fits: bool) -> None:
    terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert fits_pool(pending("p", affinity=affinity), Pool("p")) is fits


def test_only_pods_the_scheduler_gave_up_on_ask_for_nodes() -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod: Object = {"metadata": {}, "spec": {}, "status": {"conditions": [condition]}}
    assert is_unschedulable(pod)
    assert not is_unschedulable({**pod, "status": {}})
    assert not is_unschedulable({**pod, "spec": {"nodeName": "n"}})
    assert not is_unschedulable({**pod, "metadata": {"deletionTimestamp": "t"}})


def test_a_pool_is_read_from_its_short_form() -> None:
    pool = parse_pool("name=a,capacity=spot,count=2,max=4,gpus=8,startup=1.5,label.zone=z1,taint=k=v:NoSchedule")
    assert (pool.name, pool.capacity_type, pool.limit, pool.gpus, pool.startup_seconds) == ("a", "spot", 4, 8, 1.5)
    assert pool.node_labels["zone"] == "z1"
    assert parse_taint(pool.taints[0]) == {"key": "k", "value": "v", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count=2", "has no name="),
        ("name=a,count=x", "count=x"),
        ("name=a,size=3", "unknown key 'size'"),
        ("name=a,count", "is not KEY=VALUE"),
        ("name=A", "lower-case"),
        ("name=a,count=-1", "negative"),
        ("name=a,capacity=cheap", "spot or on-demand"),
        ("name=a,taint=k", "KEY"),
    ],
)
def test_a_wrong_pool_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_pool(text)


def test_images_and_pools_are_refused_when_they_cannot_work() -> None:
    with pytest.raises(ConfigError, match="PREFIX=PYTHON"):
        parse_image("worker=/no/such/python")
    with pytest.raises(ConfigError, match="same name"):
        ClusterConfig(pools=(Pool("a"), Pool("a")))


def test_a_configuration_survives_the_way_to_the_supervisor() -> None:
    config = ClusterConfig((Pool("a", labels={"k": "v"}, taints=("t:NoExecute",)),), (HostImage("p", env={"A": "1"}),))
    assert ClusterConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["pools"][0]["name"] == "a"


def test_the_longest_image_prefix_wins_and_others_are_unknown() -> None:
    special = HostImage("ghcr.io/evalfleet/worker:special", "/other/python")
    assert find_image("ghcr.io/evalfleet/worker:special-1", (*DEFAULT_IMAGES, special)) == special
    assert find_image("docker.io/library/nginx", DEFAULT_IMAGES) is None
