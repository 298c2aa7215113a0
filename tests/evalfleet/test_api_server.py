"""The API server and the models accept the same objects: one table of valid and invalid ones, and of changes."""

import copy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster_client import ApiError, Client
from operator_states import manifest, policy_manifest, pool

from evalfleet.api.evaluationjob import EvaluationJob
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.local.cluster import LocalCluster
from evalfleet.reconcile.conditions import status_of

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
FOLDER = "/apis/evalfleet.io/v1alpha1/namespaces/default"
CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.evalfleet.io.yaml"))


def lm_eval(**members: Any) -> list[Object]:
    return [{"name": "e", "lmEval": members}]


def model(**members: Any) -> Object:
    return {"uri": "hf://org/model", **members}


TASK: Object = {"name": "e", "lmEval": {"task": "t"}}
VALID_JOBS: dict[str, Object] = {
    "minimal": {},
    "inline task": {"evaluations": lm_eval(taskConfig={"task": "x", "nested": {"a": [1, 2.5]}})},
    "few-shot chat": {"evaluations": lm_eval(task="t", numFewShot=5, applyChatTemplate=True, fewShotAsMultiturn=True)},
    "generation": {"evaluations": lm_eval(task="t", generation={"temperature": "0.7", "topP": "0.9", "until": ["x"]})},
    "embedding": {"evaluations": [{"name": "e", "embedding": {"dataset": "sts.csv"}}]},
    "python with its key": {
        "evaluations": [{"name": "e", "python": {"entrypoint": "pkg.mod:run"}}],
        "confirmRunUnsafeCode": True,
    },
    "64 evaluations": {"evaluations": [{**TASK, "name": f"e{i}"} for i in range(64)]},
    "deadline": {"sla": {"deadlineTime": "2030-01-01T00:00:00Z"}},
    "completion": {"sla": {"completionSeconds": 3600}},
    "budget": {"budget": {"maxCost": "25.00"}},
    "data": {"data": {"uri": "s3://data", "secretName": "s", "offline": True}},
    "worker": {"worker": {"image": "a/b:c", "env": [{"name": "HF_HOME", "value": "/x"}], "resources": {"cpu": "500m"}}},
    "toleration": {"worker": {"tolerations": [{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]}},
    "engine": {"engine": {"numerics": "Strict", "maxTokensPerStep": 4096}},
    "widths": {"minWorkers": 2, "maxWorkers": 2},
    "priority": {"priority": -1000},
    "limits of integers": {"seed": 9_007_199_254_740_991, "backoffLimit": 100, "ttlSecondsAfterFinished": 0},
    "suspended": {"suspend": True},
    "policy": {"policyName": "other"},
    "no store": {"store": None},
}
INVALID_JOBS: dict[str, Object] = {
    "unknown member": {"modle": {}},
    "unknown model member": {"model": model(url="x")},
    "no model": {"model": None},
    "no evaluations member": {"evaluations": None},
    "no evaluation": {"evaluations": []},
    "65 evaluations": {"evaluations": [{**TASK, "name": f"e{i}"} for i in range(65)]},
    "two of one name": {"evaluations": [TASK, TASK]},
    "no harness": {"evaluations": [{"name": "e"}]},
    "two harnesses": {"evaluations": [{**TASK, "embedding": {"dataset": "x"}}]},
    "neither task nor config": {"evaluations": lm_eval(limit=3)},
    "task and config": {"evaluations": lm_eval(task="t", taskConfig={"a": 1})},
    "multiturn without chat": {"evaluations": lm_eval(task="t", fewShotAsMultiturn=True)},
    "limit of zero": {"evaluations": lm_eval(task="t", limit=0)},
    "limit as text": {"evaluations": lm_eval(task="t", limit="many")},
    "too many shots": {"evaluations": lm_eval(task="t", numFewShot=257)},
    "upper-case name": {"evaluations": [{**TASK, "name": "E"}]},
    "empty name": {"evaluations": [{**TASK, "name": ""}]},
    "temperature as a word": {"evaluations": lm_eval(task="t", generation={"temperature": "hot"})},
    "topP above one": {"evaluations": lm_eval(task="t", generation={"topP": "1.5"})},
    "no scheme": {"model": {"uri": "org/model"}},
    "long uri": {"model": {"uri": "hf://" + "x" * 1020}},
    "unknown format": {"model": model(format="ONNX")},
    "unknown dtype": {"model": model(dtype="Int8")},
    "secret with a slash": {"model": model(secretName="a/b")},
    "secret without data": {"data": {"secretName": "s"}},
    "absolute dataset": {"evaluations": [{"name": "e", "embedding": {"dataset": "/etc/passwd"}}]},
    "three columns": {"evaluations": [{"name": "e", "embedding": {"dataset": "x", "pairColumns": ["a", "b", "c"]}}]},
    "python without its key": {"evaluations": [{"name": "e", "python": {"entrypoint": "pkg:run"}}]},
    "python without function": {
        "evaluations": [{"name": "e", "python": {"entrypoint": "pkg"}}],
        "confirmRunUnsafeCode": True,
    },
    "cost as a number": {"budget": {"maxCost": 25}},
    "negative cost": {"budget": {"maxCost": "-1"}},
    "deadline without zone": {"sla": {"deadlineTime": "2030-01-01T00:00:00"}},
    "deadline and completion": {"sla": {"deadlineTime": "2030-01-01T00:00:00Z", "completionSeconds": 5}},
    "forbidden variable": {"worker": {"env": [{"name": "LD_PRELOAD", "value": "/x"}]}},
    "two variables of one name": {"worker": {"env": [{"name": "HF_HOME", "value": v} for v in "ab"]}},
    "quantity as words": {"worker": {"resources": {"cpu": "two"}}},
    "unknown effect": {"worker": {"tolerations": [{"effect": "Never"}]}},
    "minimum above maximum": {"minWorkers": 3, "maxWorkers": 2},
    "no worker at all": {"maxWorkers": 0},
    "priority beyond bounds": {"priority": 1001},
    "negative ttl": {"ttlSecondsAfterFinished": -1},
    "zero deadline": {"activeDeadlineSeconds": 0},
    "seed beyond exact integers": {"seed": 9_007_199_254_740_992},
    "suspend as a word": {"suspend": "later"},
}
VALID_POLICIES: dict[str, Object] = {
    "two pools": {},
    "local": {"pools": [pool("local", "Local", pricePerHour="0")]},
    "spot only": {"pools": [pool("spot")], "strategy": "SpotOnly"},
    "limits": {"limits": {"maxWorkers": 8, "maxCostPerDay": "100.50"}},
    "security": {"security": {"allowRemoteCode": True, "allowedImages": ["a/"]}},
}
INVALID_POLICIES: dict[str, Object] = {
    "no pools": {"pools": []},
    "33 pools": {"pools": [pool(f"p{i}") for i in range(33)]},
    "unknown capacity type": {"pools": [pool("p", "Free")]},
    "price as a number": {"pools": [pool("p", pricePerHour=1.2)]},
    "on-demand only without such a pool": {"pools": [pool("p")], "strategy": "OnDemandOnly"},
    "spot only without such a pool": {"pools": [pool("p", "OnDemand")], "strategy": "SpotOnly"},
    "unknown strategy": {"strategy": "Magic"},
    "long currency": {"currency": "EURO"},
    "unknown member": {"poolz": []},
    "two pools of one name": {"pools": [pool("p"), pool("p", "OnDemand")]},
}
ROWS = [
    (kind, name, spec, valid)
    for kind, table, valid in (
        ("EvaluationJob", VALID_JOBS, True),
        ("EvaluationJob", INVALID_JOBS, False),
        ("ScalingPolicy", VALID_POLICIES, True),
        ("ScalingPolicy", INVALID_POLICIES, False),
    )
    for name, spec in table.items()
]
IMMUTABLE: dict[str, tuple[Object, Object]] = {
    "change the model": ({}, {"model": {"uri": "hf://org/other"}}),
    "change the evaluations": ({}, {"evaluations": lm_eval(task="other")}),
    "add data": ({}, {"data": {"offline": True}}),
    "remove data": ({"data": {"offline": True}}, {"data": None}),
    "change data": ({"data": {"offline": True}}, {"data": {"offline": False}}),
    "add an engine": ({}, {"engine": {"numerics": "Strict"}}),
    "remove the engine": ({"engine": {"numerics": "Strict"}}, {"engine": None}),
    "add a policy": ({}, {"policyName": "p"}),
    "change the policy": ({"policyName": "p"}, {"policyName": "q"}),
    "remove the store": ({}, {"store": None}),
    "add a worker": ({}, {"worker": {"image": "x"}}),
    "change the seed": ({}, {"seed": 1}),
    "change the back-off": ({}, {"backoffLimit": 1}),
}
MUTABLE: dict[str, Object] = {
    "width": {"maxWorkers": 3},
    "suspend": {"suspend": True},
    "priority": {"priority": 7},
    "budget": {"budget": {"maxCost": "1"}},
    "sla": {"sla": {"completionSeconds": 60}},
}


def is_established(crd: Object) -> bool:
    return status_of(crd["status"].get("conditions") or [], "Established") == "True"


@pytest.fixture(scope="module")
def server(shared_cluster: LocalCluster, cluster_client: Client) -> Client:
    for crd in CRDS:
        command = [shared_cluster.kubectl, f"--kubeconfig={shared_cluster.kubeconfig}", "apply", "-f", crd]
        subprocess.run(command, check=True, capture_output=True)
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd.stem}"
        cluster_client.wait(path, is_established)
    cluster_client.wait("/api/v1/namespaces/default", bool)
    return cluster_client


def whole(kind: str, spec: Object) -> Object:
    body = manifest(**spec) if kind == "EvaluationJob" else policy_manifest()
    if kind == "ScalingPolicy":
        body["spec"].update(spec)
    return {**body, "metadata": {"name": "row", "namespace": "default"}}


def server_refuses(client: Client, kind: str, body: Object) -> str:
    plural = {"EvaluationJob": "evaluationjobs", "ScalingPolicy": "scalingpolicies"}[kind]
    try:
        client.create(f"{FOLDER}/{plural}?dryRun=All&fieldValidation=Strict", body)
    except ApiError as error:
        if error.status not in (400, 422):
            raise
        return str(error)
    return ""


def models_refuse(kind: str, body: Object) -> str:
    wire = EvaluationJob if kind == "EvaluationJob" else ScalingPolicy
    try:
        wire.model_validate(copy.deepcopy(body))
    except ValueError as error:
        return str(error)
    return ""


def test_the_table_is_as_long_as_promised() -> None:
    assert len(ROWS) >= 60


@pytest.mark.parametrize(("kind", "name", "spec", "valid"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_server_and_models_say_the_same(server: Client, kind: str, name: str, spec: Object, valid: bool) -> None:
    body = whole(kind, spec)
    by_server, by_models = server_refuses(server, kind, body), models_refuse(kind, body)
    assert (not by_server, not by_models) == (valid, valid), f"{name}: server {by_server!r}, models {by_models!r}"


@pytest.mark.parametrize("name", IMMUTABLE)
def test_what_decides_the_result_never_changes(server: Client, name: str) -> None:
    before, change = IMMUTABLE[name]
    path = f"{FOLDER}/evaluationjobs/{name.replace(' ', '-')}"
    body = whole("EvaluationJob", before)
    server.create(f"{FOLDER}/evaluationjobs", {**body, "metadata": {"name": name.replace(" ", "-")}})
    with pytest.raises(ApiError, match="immutable"):
        server.patch(path, {"spec": change})
    server.delete(path)


@pytest.mark.parametrize("name", MUTABLE)
def test_what_steers_the_run_may_change(server: Client, name: str) -> None:
    path = f"{FOLDER}/evaluationjobs/mutable-{name}"
    server.create(f"{FOLDER}/evaluationjobs", {**whole("EvaluationJob", {}), "metadata": {"name": f"mutable-{name}"}})
    for key, value in MUTABLE[name].items():
        assert server.patch(path, {"spec": {key: value}})["spec"][key] is not None
    server.delete(path)


SAMPLES = sorted(
    path for folder in ("examples", "k8s/samples") for path in (CRDS[0].parents[1] / folder).glob("*.yaml")
)
LISTS = """
apiVersion: evalfleet.io/v1alpha1
kind: ScalingPolicy
metadata: {name: lists}
spec:
  pools:
  - {name: spot, capacityType: Spot, nodeSelector: {a: b}, pricePerHour: "1.00", maxWorkers: 1,
     tolerations: [{key: gpu}]}
  - {name: steady, capacityType: OnDemand, nodeSelector: {}, pricePerHour: "3", maxWorkers: 0, accelerator: {}}
  worker: {tolerations: [{key: gpu, effect: NoSchedule}]}
---
apiVersion: evalfleet.io/v1alpha1
kind: EvaluationJob
metadata: {name: lists}
spec:
  policyName: lists
  suspend: true
  model: {uri: "hf://none/needed"}
  evaluations:
  - {name: toy, python: {entrypoint: "toy_evaluation:make"}}
  - {name: pairs, embedding: {dataset: sts.csv}}
  - {name: task, lmEval: {task: hellaswag}}
  worker: {tolerations: [{key: gpu}]}
  confirmRunUnsafeCode: true
"""


def test_what_is_applied_again_is_unchanged(shared_cluster: LocalCluster, namespace: str, tmp_path: Path) -> None:
    """GitOps tools compare as kubectl does: a default inside a list would be a difference for ever."""
    kubectl = [str(shared_cluster.kubectl), f"--kubeconfig={shared_cluster.kubeconfig}", "-n", namespace]
    apply = [*kubectl, "apply", "-f", str(tmp_path / "one.yaml")]
    (tmp_path / "lists.yaml").write_text(LISTS, "utf-8")
    for path in (*SAMPLES, tmp_path / "lists.yaml"):
        for body in yaml.safe_load_all(path.read_text("utf-8")):
            body["metadata"].pop("namespace", None)
            if body["kind"] == "EvaluationJob":
                body["spec"]["suspend"] = True
            (tmp_path / "one.yaml").write_text(yaml.safe_dump(body), "utf-8")
            subprocess.run(apply, check=True, capture_output=True)
            for _ in range(2):
                said = subprocess.run(apply, check=True, capture_output=True, text=True).stdout
                assert said.endswith(" unchanged\n"), (path, said)
