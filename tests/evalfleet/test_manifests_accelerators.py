"""The plan knows what workers compute on, and a worker what it was given: nobody takes a CPU for a GPU."""

from dataclasses import replace
from typing import Any

import pytest
from operator_states import NOW, job_state, planned, policy, pool

from evalfleet.api.scalingpolicy import NodePool
from evalfleet.manifests.accelerators import Devices, devices_of
from evalfleet.manifests.jobs import Place, plan_job, worker_job
from evalfleet.manifests.names import Identity
from evalfleet.reconcile.decision import Create
from evalfleet.reconcile.job.pods import pod_shape, proposed
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.decide import scale
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_worker.engine.accelerator import asked_of

OWNER = Identity("team", "job", "uid-1")
H100 = {"accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}}
T4 = {"accelerator": {"product": "Tesla-T4", "countPerWorker": 2}}


def pools(*members: dict[str, Any]) -> list[NodePool]:
    return policy(*members).spec.pools


@pytest.mark.parametrize(
    ("members", "simulated", "expected"),
    [
        ([pool("a", "Local")], False, Devices("cpu")),
        ([pool("a", "Spot")], False, Devices("cuda")),
        ([pool("a", "Spot", **H100)], False, Devices("cuda", ("NVIDIA-H100-80GB-HBM3",))),
        ([pool("a", "Local", **H100)], False, Devices("cuda", ("NVIDIA-H100-80GB-HBM3",))),
        (
            [pool("a", "Spot", **H100), pool("b", "OnDemand", **H100)],
            False,
            Devices("cuda", ("NVIDIA-H100-80GB-HBM3",)),
        ),
        ([pool("a", "Local"), pool("b", "Spot", **T4)], False, Devices("cuda", ("Tesla-T4",), 2)),
        ([pool("a", "Spot", **H100)], True, Devices("cpu")),
    ],
)
def test_a_run_is_computed_on_gpus_as_soon_as_one_pool_has_them(
    members: list[dict[str, Any]], simulated: bool, expected: Devices
) -> None:
    assert devices_of(pools(*members), simulated) == expected


def state_of(*members: dict[str, Any], simulated: bool = False) -> JobState:
    state = job_state({"policy": policy(*members)})
    return replace(state, site=replace(state.site, simulated_gpus=simulated))


def test_the_plan_is_told_kind_products_and_width() -> None:
    spec = proposed(state_of(pool("a", "Spot", **T4), pool("b", "Spot", **H100))).spec
    assert (spec.device_kind, spec.accelerators) == ("cuda", ("Tesla-T4", "NVIDIA-H100-80GB-HBM3"))
    assert spec.engine.devices_per_worker == 2


def variables(state: JobState, body: dict[str, Any]) -> dict[str, str]:
    container = body["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.mark.parametrize(
    ("member", "simulated", "device", "given"),
    [
        (pool("a", "Spot", **H100), False, "", "NVIDIA-H100-80GB-HBM3"),
        (pool("a", "Spot"), False, "", "nvidia.com/gpu"),
        (pool("a", "Local"), False, "cpu", ""),
        (pool("a", "Spot", **H100), True, "cpu", ""),
    ],
)
def test_a_worker_reads_what_it_was_given_as_its_engine_does(
    member: dict[str, Any], simulated: bool, device: str, given: str
) -> None:
    state = state_of(member, simulated=simulated)
    body = worker_job(OWNER, pod_shape(state), policy(member).spec.pools[0], Place(0, 1))
    asked = asked_of(variables(state, body))
    assert (asked.device, asked.given) == (device, given)


def test_the_plan_pod_is_given_no_device() -> None:
    state = state_of(pool("a", "Spot", **H100))
    assert not variables(state, plan_job(OWNER, pod_shape(state))).keys() & {
        "EVALFLEET_DEVICE",
        "EVALFLEET_ACCELERATOR",
    }


def pools_started(runs_under: list[dict[str, Any]], then: list[dict[str, Any]]) -> set[str]:
    """Pools of the workers that are started for a run frozen under one policy, when the policy is another by now."""
    job = job_state(planned(policy=policy(*runs_under)), maxWorkers=4)
    found = scale(PolicyState(NOW, policy(*then), {"uid-1": job}), decide_fleet)
    labels = [action.body["metadata"]["labels"] for action in found.actions if isinstance(action, Create)]
    return {member["evalfleet.io/pool"] for member in labels}


def test_a_run_on_gpus_never_uses_a_pool_of_cpus() -> None:
    mixed = [pool("own", "Local", pricePerHour="0"), pool("gpus", "OnDemand")]
    assert pools_started(mixed, mixed) == {"gpus"}
    assert pools_started([pool("gpus", "OnDemand")], mixed) == {"gpus"}
    assert pools_started([pool("gpus", "OnDemand")], [pool("own", "Local")]) == set()
    assert pools_started([pool("own", "Local")], [pool("own", "Local")]) == {"own"}
