"""The pods the operator creates: restricted, allow-listed, named deterministically."""

from typing import Any

import pytest
from operator_states import job_state, policy

from evalfleet.manifests.jobs import Place, finish_job, plan_job, worker_job
from evalfleet.manifests.names import Identity
from evalfleet.reconcile.job.pods import pod_shape, proposed
from evalfleet_worker.claims import as_claim, mounted_folders, with_folders

OWNER = Identity("team", "job", "uid-1")


def bodies(spec: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    shape = pod_shape(job_state({"policy": policy()}, **(spec or {})))
    pool = policy().spec.pools[0]
    return [
        plan_job(OWNER, shape),
        worker_job(OWNER, shape, pool, Place(3, 2, ("broken-node",))),
        finish_job(OWNER, shape, 1),
    ]


@pytest.mark.parametrize("index", range(3))
def test_every_pod_is_restricted_and_has_no_token(index: int) -> None:
    pod = bodies()[index]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["command"][:3] == ["python", "-m", "evalfleet_worker"]


def test_a_disruption_never_counts_and_the_fatal_code_ends_at_once() -> None:
    rules = bodies()[1]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert rules[1]["onExitCodes"]["values"] == [64, 69, 70, 126, 127, 128]
    assert rules[2]["onExitCodes"]["values"] == [75, 76, 143]
    assert {rule["onExitCodes"]["containerName"] for rule in rules[1:]} == {"worker"}


def test_a_pod_keeps_away_from_machines_that_failed_but_never_insists() -> None:
    """Karpenter makes no node for a pod that requires or excludes hosts."""
    affinity = bodies()[1]["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity.pop("preferredDuringSchedulingIgnoredDuringExecution")
    assert affinity == {}
    assert term["preference"]["matchExpressions"][0]["values"] == ["broken-node"]
    assert "affinity" not in bodies()[0]["spec"]["template"]["spec"]


@pytest.mark.parametrize("index", range(3))
def test_a_machine_that_does_not_answer_keeps_no_pod_for_long(index: int) -> None:
    tolerations = bodies()[index]["spec"]["template"]["spec"]["tolerations"]
    unreachable = next(one for one in tolerations if one["key"] == "node.kubernetes.io/unreachable")
    assert (unreachable["effect"], unreachable["tolerationSeconds"]) == ("NoExecute", 30)


@pytest.mark.parametrize(
    ("worker", "requests", "limits"),
    [
        ({}, {"cpu": "1", "memory": "2Gi"}, {}),
        ({"resources": {"cpu": "16", "memory": "64Gi"}}, {"cpu": "1", "memory": "4Gi"}, {"memory": "4Gi"}),
        ({"resources": {"cpu": "100m", "memory": "500Mi"}}, {"cpu": "100m", "memory": "500Mi"}, {"memory": "500Mi"}),
        (
            {"resources": {"cpu": "16", "memory": "64Gi"}, "planResources": {"memory": "32Gi"}},
            {"cpu": "1", "memory": "32Gi"},
            {"memory": "32Gi"},
        ),
    ],
)
def test_plan_and_finish_ask_for_little_unless_told(worker: Any, requests: Any, limits: Any) -> None:
    for index in (0, 2):
        container = bodies({"worker": worker})[index]["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"] == {"requests": requests, "limits": limits}


def test_a_worker_names_its_slot_generation_pool_and_price() -> None:
    body = bodies()[1]
    assert body["metadata"]["name"] == "job-w3-2"
    assert body["metadata"]["labels"]["evalfleet.io/pool"] == "spot"
    assert body["metadata"]["annotations"]["evalfleet.io/price-per-hour"] == "1.00"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    assert body["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "spot"}
    assert body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}


def test_a_job_cannot_leave_the_nodes_of_the_pool_that_it_pays_for() -> None:
    spec = {"worker": {"nodeSelector": {"pool": "dearer", "disk": "ssd"}}}
    assert bodies(spec)[1]["spec"]["template"]["spec"]["nodeSelector"] == {"pool": "spot", "disk": "ssd"}


def test_the_files_of_a_large_claim_are_not_given_away_one_by_one_at_every_start() -> None:
    context = bodies()[1]["spec"]["template"]["spec"]["securityContext"]
    assert context["fsGroupChangePolicy"] == "OnRootMismatch"


def test_long_names_are_shortened_and_stay_distinct() -> None:
    first, second = (Identity("team", "x" * 200 + end, "u").child("w12-345") for end in ("a", "b"))
    assert first != second
    assert max(len(first), len(second)) <= 63


def test_the_users_environment_never_overrides_ours() -> None:
    env = [{"name": "HF_TOKEN", "value": "x"}]
    container = bodies({"worker": {"env": env}})[1]["spec"]["template"]["spec"]["containers"][0]
    names = [entry["name"] for entry in container["env"]]
    assert names[:2] == ["POD_IP", "POD_NAME"]
    assert "HF_TOKEN" in names
    assert len(set(names)) == len(names)


def test_claims_are_mounted_and_the_worker_finds_their_folders() -> None:
    observed = job_state(data={"uri": "pvc://datasets/sts"}, store={"uri": "pvc://runs/here"})
    shape = pod_shape(observed)
    assert shape.claims == ("datasets", "runs")
    pod = plan_job(OWNER, shape)["spec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume.get("persistentVolumeClaim") for volume in pod["volumes"]}
    assert volumes["claim-1"] == {"claimName": "runs"}
    variables = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}
    folders = mounted_folders(variables)
    assert folders == {"datasets": mounts["claim-0"], "runs": mounts["claim-1"]}
    spec = with_folders(proposed(observed).spec, folders)
    assert spec.data_uri == f"file://{mounts['claim-0']}/sts"
    assert spec.store_uri == f"file://{mounts['claim-1']}/here"
    assert as_claim(f"{spec.store_uri}/results", folders) == "pvc://runs/here/results"
