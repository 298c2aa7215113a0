"""Objects that the schema takes and no sane person writes: each sets its own condition, and its neighbour goes on."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import ApiError, Client
from operator_bench import Bench, OperatorProcess, bench, condition, has, running_operator, toy
from poison import assert_sane, assert_succeeds, use_spot_and_on_demand, wait_until_stated

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "poison", tmp_path_factory.mktemp("poison")) as made:
        use_spot_and_on_demand(made)
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


@pytest.fixture(autouse=True)
def cleared(place: Bench) -> Iterator[None]:
    """What one test created goes before the next begins."""
    yield
    place.kubectl("delete", "evj", "--all", "--wait", "--timeout=120s")


def task(**config: Any) -> Object:
    return {"name": "task", "lmEval": {"taskConfig": config}}


def resources(**quantities: str) -> Object:
    return {"worker": {"resources": quantities}}


def env(**variables: str) -> Object:
    return {"worker": {"env": [{"name": name, "value": value} for name, value in variables.items()]}}


NO_CODE: Object = {"confirmRunUnsafeCode": False}
NEVER_RUN: dict[str, tuple[Object, str, str]] = {
    "label": ({"worker": {"nodeSelector": {"not a label!": "x"}}}, "Stalled", "ObjectRefused"),
    "toleration": ({"worker": {"tolerations": [{"operator": "Exists", "value": "x"}]}}, "Stalled", "ObjectRefused"),
    "huge-config": (
        {"evaluations": [{**task(x="x" * 60_000), "name": f"e{n}"} for n in range(20)], **NO_CODE},
        "Stalled",
        "ObjectRefused",
    ),
    "cores": (resources(cpu="999999999"), "Planned", "WaitingForNode"),
    "millibyte": (resources(memory="1m"), "Failed", "OutOfMemory"),
    "no-claim": ({"store": {"uri": "pvc://nowhere/at/all"}}, "Planned", "ClaimMissing"),
    "strange-claim": ({"store": {"uri": "pvc://NOT A CLAIM/x"}}, "Planned", "ClaimMissing"),
    "no-function": (
        {"evaluations": [{"name": "e", "python": {"entrypoint": "toy_evaluation:nothing"}}]},
        "Failed",
        "InvalidTask",
    ),
    "no-task": (
        {"evaluations": [task(task=["x"], dataset_path={"a": 1})], "model": {"uri": "file:///"}, **NO_CODE},
        "Failed",
        "InvalidModelRef",
    ),
    "year-one": ({"sla": {"deadlineTime": "0001-01-01T00:00:00Z"}}, "Admitted", "DeadlineInfeasible"),
    "before-year-one": ({"sla": {"deadlineTime": "0001-01-01T00:00:00+14:00"}}, "Admitted", "DeadlineInfeasible"),
    "one-second": ({"sla": {"completionSeconds": 1}}, "Admitted", "DeadlineInfeasible"),
    "killed-at-once": ({"activeDeadlineSeconds": 1}, "Failed", "DeadlineExceeded"),
    "no-money": ({"budget": {"maxCost": "0"}}, "Stalled", "BudgetExhausted"),
    "hundredth-cent": ({"budget": {"maxCost": "0.0001"}}, "Stalled", "BudgetExhausted"),
}  # fmt: skip


def test_absurd_objects_set_their_own_condition_and_their_neighbour_goes_on(
    place: Bench, operator: OperatorProcess
) -> None:
    for name, (spec, _, _) in NEVER_RUN.items():
        place.create(name, **spec)
    place.create("neighbour")
    assert_succeeds(place, "neighbour")
    for name, (_, kind, reason) in NEVER_RUN.items():
        wait_until_stated(place, name, kind, reason)
    assert "set sla.deadlineTime to 2" in condition(place.client.get(place.job_path("year-one")), "Admitted")["message"]
    assert_sane(operator, len(NEVER_RUN) + 2)


LONGEST = ".".join(["a" * 62] * 4) + "bb"
"""253 letters: the longest name of an object; a child's has 63."""
TWIN = LONGEST[:-1] + "c"
SOLID = "s" * 253
DOTTED = "d" * 199 + "." + "d" * 53
"""Cut after two hundred letters it would end with a dot."""
RUN_ANYWAY = {"onInfeasible": "RunAnyway"}
RUN_ALL_THE_SAME: dict[str, Object] = {
    LONGEST: {},
    TWIN: {},
    SOLID: {},
    DOTTED: {},
    "year-9999": {"sla": {"deadlineTime": "9999-12-31T23:59:59Z"}},
    "beyond-9999": {"sla": {"deadlineTime": "9999-12-31T23:59:59-14:00"}},
    "year-one-anyway": {"sla": {"deadlineTime": "0001-01-01T00:00:00Z", **RUN_ANYWAY}},
    "half-a-century": {
        "sla": {"completionSeconds": 2_147_483_647, "queueWaitSeconds": 2_147_483_647},
        "activeDeadlineSeconds": 2_147_483_647,
        "ttlSecondsAfterFinished": 2_147_483_647,
    },
    "thousand": {"maxWorkers": 1000, "minWorkers": 1000, "priority": 1000, "seed": 9_007_199_254_740_991},
    "rich": {"budget": {"maxCost": "999999999.9999", "onConflict": "Deadline"}, "priority": -1000},
    "many-names": {"evaluations": [toy(f"{n:02}" + "x" * 61, count="2") for n in range(64)]},
    "own-variables": env(
        HF_HOME="/nowhere", HF_ENDPOINT="nonsense", CUDA_VISIBLE_DEVICES="none of them", USER_X="$(EVALFLEET_CACHE)$(",
        TORCH_HOME="/nowhere", TOKENIZERS_PARALLELISM="perhaps", AWS_REGION="", NCCL_DEBUG="x" * 4096,
    ),
}  # fmt: skip


def test_what_is_only_unusual_runs_like_anything_else(place: Bench, operator: OperatorProcess) -> None:
    for name, spec in RUN_ALL_THE_SAME.items():
        place.create(name, **spec)
    done = {name: assert_succeeds(place, name) for name in RUN_ALL_THE_SAME}
    assert all(len(name.split("/")[1]) <= 63 for name in place.children())
    assert done["many-names"]["status"]["samples"]["scored"] == 128
    assert done["year-9999"]["status"]["deadlineTime"] == "9999-12-31T23:59:59Z"
    assert has(done["year-one-anyway"], "OnTime", "False") or not has(done["year-one-anyway"], "OnTime")
    assert_sane(operator, len(RUN_ALL_THE_SAME) + 1)


REFUSED_BY_THE_SERVER: dict[str, Object] = {
    "our cache": env(EVALFLEET_CACHE="/elsewhere"),
    "our claims": env(EVALFLEET_CLAIM_SETTINGS="{}"),
    "the search path": env(PATH="/elsewhere"),
    "the home": env(HOME="/root"),
    "the loader": env(LD_PRELOAD="/elsewhere.so"),
    "the interpreter": env(PYTHONPATH="/elsewhere"),
    "the pod's address": env(POD_IP="1.2.3.4"),
    "one variable twice": {"worker": {"env": [{"name": "USER_A", "value": n} for n in "ab"]}},
    "more least than most": {"minWorkers": 1000, "maxWorkers": 999},
    "a negative budget": {"budget": {"maxCost": "-1"}},
    "a billion": {"budget": {"maxCost": "1000000000"}},
    "the year 10000": {"sla": {"deadlineTime": "10000-01-01T00:00:00Z"}},
}


@pytest.mark.parametrize("what", REFUSED_BY_THE_SERVER)
def test_what_would_override_us_is_refused_by_the_server(place: Bench, what: str) -> None:
    with pytest.raises(ApiError, match="422"):
        place.create("refused", **REFUSED_BY_THE_SERVER[what])
