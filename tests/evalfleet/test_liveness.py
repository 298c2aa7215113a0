"""The verdict on a pod: every way in which machines, people and clocks keep a worker from working."""

from datetime import UTC, datetime, timedelta
from typing import Any

import kubelet_statuses as kubelet
import pytest

from evalfleet.reconcile.liveness import (
    Broken,
    Ended,
    Gone,
    Healthy,
    Held,
    NoNode,
    Patience,
    Silent,
    Starting,
    Verdict,
    alive_beside,
    clock_ahead,
    judge,
)
from evalfleet.reconcile.pod_reasons import Whose, refusal_reason, resource_of

Object = dict[str, Any]
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATIENCE = Patience(node_seconds=600, start_seconds=300, silence_seconds=100)
CREATED, BOUND = NOW - timedelta(seconds=200), NOW - timedelta(seconds=150)
NO_GPU = '{"reason": "NoUsableAccelerator", "message": "device 0: ECC error"}'
TAINTED = "Taint manager: deleting due to NoExecute taint"
NO_IMAGE = 'failed to resolve reference "registry/worker:1": not found'
NO_HOST = 'Get "https://registry/v2/": dial tcp: lookup registry: no such host'
PULL_BACK_OFF = 'Back-off pulling image "registry/worker:1"'


def at(ahead: float = 0.0) -> kubelet.Clock:
    """A node's clock about NOW."""
    return lambda later: (NOW + timedelta(seconds=ahead + later)).isoformat()


def pod(status: Object | None = None, *, node: str = "n", sidecars: tuple[str, ...] = (), **metadata: Any) -> Object:
    """A pod of ours, bound unless `node` is empty."""
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": BOUND.isoformat()}
    conditions = [*([scheduled] if node else []), *(status or {}).get("conditions", [])]
    names = [*sidecars, "worker"]
    return {
        "metadata": {"name": "p", "creationTimestamp": CREATED.isoformat(), **metadata},
        "spec": {"nodeName": node, "containers": [{"name": name, "image": "registry/worker:1"} for name in names]},
        "status": {"phase": "Pending", **(status or {}), "conditions": conditions},
    }


def as_written(write: kubelet.Writer, *sidecars: str, inits: tuple[str, ...] = (), **metadata: Any) -> Object:
    """A pod as a kubelet leaves it."""
    bare = pod(sidecars=sidecars)
    bare["spec"]["initContainers"] = [{"name": name, "image": "init:1"} for name in inits]
    return pod(write(bare, at()), sidecars=sidecars, **metadata)


def verdict(found: Object, heard: datetime | None = None) -> Verdict:
    return judge(found, NOW, PATIENCE, heard)


def unscheduled(message: str, reason: str = "Unschedulable") -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod({"conditions": [condition]}, node="")


def disrupted(reason: str, message: str = "") -> Object:
    running = kubelet.running(pod(), at())
    target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
    return pod({**running, "conditions": [target]})


def test_a_pod_waits_for_its_node_as_long_as_its_pool_may_take() -> None:
    found = verdict(unscheduled("0/2 nodes are available"))
    assert isinstance(found, NoNode)
    assert found.until == CREATED + timedelta(seconds=600)
    assert (found.why.reason, "0/2 nodes" in found.why.message) == ("WaitingForNode", True)


def test_what_another_controller_gates_is_held_without_end() -> None:
    found = verdict(unscheduled("waiting for gates: kueue.x-k8s.io/admission", "SchedulingGated"))
    assert isinstance(found, Held)
    assert "kueue.x-k8s.io/admission" in found.why.message


STARTS = [
    (kubelet.creating, "WaitingForPod", "starting"),
    (kubelet.waiting("ErrImagePull", NO_HOST), "WaitingForImage", NO_HOST),
    (kubelet.waiting("ImagePullBackOff", PULL_BACK_OFF), "WaitingForImage", PULL_BACK_OFF),
    (kubelet.waiting("RegistryUnavailable", "registry is down"), "WaitingForImage", "registry is down"),
    (kubelet.waiting("ImageInspectError", "I/O error"), "WaitingForImage", "ImageInspectError: I/O error"),
    (kubelet.waiting("SomethingNew", "never heard of"), "WaitingForPod", "SomethingNew: never heard of"),
]


@pytest.mark.parametrize(("write", "reason", "words"), STARTS)
def test_a_pod_that_starts_has_until_its_patience_ends_in_the_kubelets_words(
    write: kubelet.Writer, reason: str, words: str
) -> None:
    found = verdict(as_written(write))
    assert isinstance(found, Starting)
    assert found.until == BOUND + timedelta(seconds=300)
    assert found.why.reason == reason
    assert words in found.why.message


def test_the_container_that_waits_is_named_whichever_it_is() -> None:
    write = kubelet.waiting("CrashLoopBackOff", "back-off 10s restarting failed container", container="vault-agent")
    found = verdict(as_written(write, inits=("vault-agent",)))
    assert isinstance(found, Starting)
    assert "container vault-agent: CrashLoopBackOff: back-off 10s" in found.why.message


OF_THE_JOB = [
    (kubelet.waiting("CreateContainerConfigError", 'secret "s3" not found'), "SecretMissing", "Secret s3 "),
    (kubelet.waiting("CreateContainerConfigError", "image will run as root"), "PodConfigInvalid", "run as root"),
    (kubelet.waiting("ErrImagePull", NO_IMAGE), "WaitingForImage", NO_IMAGE),
    (kubelet.waiting("SignatureValidationFailed", kubelet.UNSIGNED), "WaitingForImage", kubelet.UNSIGNED),
    (kubelet.waiting("InvalidImageName", "bad"), "WaitingForImage", "InvalidImageName: bad"),
]


@pytest.mark.parametrize(("write", "reason", "words"), OF_THE_JOB)
def test_what_no_other_node_mends_is_the_jobs_own(write: kubelet.Writer, reason: str, words: str) -> None:
    found = verdict(as_written(write))
    assert isinstance(found, Broken)
    assert (found.reason, found.whose) == (reason, Whose.JOB)
    assert words in found.message


def test_a_missing_claim_and_a_failed_init_container_are_the_jobs_own() -> None:
    claim = verdict(unscheduled('persistentvolumeclaim "models" not found'))
    assert isinstance(claim, Broken)
    assert (claim.reason, "models" in claim.message) == ("ClaimMissing", True)
    bare = as_written(kubelet.creating, inits=("setup",))
    failed = {"name": "setup", "state": {"terminated": {"exitCode": 3, "message": "no token"}}}
    bare["status"] |= {"phase": "Failed", "initContainerStatuses": [failed]}
    found = verdict(bare)
    assert isinstance(found, Broken)
    assert "container setup failed before the worker began (exit code 3): no token" in found.message


GONE = [
    (as_written(kubelet.rejected("UnexpectedAdmissionError", kubelet.NO_DEVICES)), "Rejected", "no healthy devices"),
    (as_written(kubelet.rejected("OutOfcpu", "Node didn't have enough resource: cpu")), "Rejected", "OutOfcpu: Node"),
    (as_written(kubelet.rejected("NodeAffinity", "Predicate NodeAffinity failed")), "Rejected", "NodeAffinity"),
    (as_written(kubelet.rejected("Evicted", kubelet.LOW_DISK)), "Evicted", "low on resource"),
    (as_written(kubelet.evicted()), "Evicted", "low on resource: ephemeral-storage"),
    (as_written(kubelet.ended(137, "ContainerStatusUnknown", "could not be located")), "Lost", "could not be located"),
    (as_written(kubelet.ended(69, message=NO_GPU)), "Unsuitable", "NoUsableAccelerator: device 0: ECC error"),
    (as_written(kubelet.ended(69)), "Unsuitable", "exit code 69"),
    (disrupted("DeletionByTaintManager", TAINTED), "NodeLost", TAINTED),
    (disrupted("DeletionByPodGC"), "NodeLost", "does not answer"),
    (disrupted("EvictionByEvictionAPI"), "Drained", "drained"),
    (disrupted("PreemptionByScheduler"), "Preempted", "priority"),
    (disrupted("SomeCloud"), "Reclaimed", "taken away"),
    (pod({"phase": "Unknown"}), "NodeLost", "does not answer"),
]


@pytest.mark.parametrize(("found", "cause", "words"), GONE)
def test_what_the_infrastructure_ends_is_gone_with_its_words(found: Object, cause: str, words: str) -> None:
    gone = verdict(found)
    assert isinstance(gone, Gone)
    assert gone.cause == cause
    assert words in gone.message


def test_a_pod_that_nobody_ends_is_gone_some_time_after_its_grace_period() -> None:
    def dying(seconds_ago: float) -> Object:
        due = (NOW - timedelta(seconds=seconds_ago)).isoformat()
        return as_written(kubelet.running, deletionTimestamp=due)

    assert isinstance(verdict(dying(10)), Healthy)
    stuck = verdict(dying(31))
    assert isinstance(stuck, Gone)
    assert stuck.cause == "Stuck"


@pytest.mark.parametrize("sidecars", [(), ("aa-proxy",), ("zz-agent",)])
def test_only_the_worker_speaks_for_the_worker(sidecars: tuple[str, ...]) -> None:
    assert isinstance(verdict(as_written(kubelet.running, *sidecars)), Healthy)
    done = as_written(kubelet.ended(0, "Completed", "report", others_run=True), *sidecars)
    ended = verdict(done)
    assert isinstance(ended, Ended)
    assert (ended.exit_code, ended.message) == (0, "report")
    assert alive_beside(done) == sidecars


def test_a_sidecar_that_is_killed_is_no_end_of_the_worker() -> None:
    found = as_written(kubelet.ended(137, "OOMKilled", container="aa-proxy", others_run=True), "aa-proxy")
    assert isinstance(verdict(found), Healthy)


def test_a_worker_that_neither_answers_nor_moves_is_silent() -> None:
    found = as_written(kubelet.running)
    assert isinstance(verdict(found, NOW - timedelta(seconds=99)), Healthy)
    assert verdict(found, NOW - timedelta(seconds=101)) == Silent(NOW - timedelta(seconds=101))
    assert isinstance(verdict(found), Healthy)


def test_no_time_of_a_node_lies_after_the_servers_now() -> None:
    def ending(ahead: float) -> Object:
        return pod(kubelet.ended(1)(pod(), at(ahead)))

    ahead, behind = verdict(ending(36000)), verdict(ending(-3600))
    assert isinstance(ahead, Ended)
    assert isinstance(behind, Ended)
    assert (ahead.at, behind.at) == (NOW, NOW - timedelta(hours=1))
    assert clock_ahead(ending(36000), NOW) == timedelta(hours=10)
    assert [clock_ahead(ending(seconds), NOW) for seconds in (4, -3600)] == [timedelta(0)] * 2


@pytest.mark.parametrize(
    ("message", "resource"),
    [
        (kubelet.LOW_DISK, "ephemeral-storage"),
        ("The node was low on resource: memory. Container worker was using 9Gi", "memory"),
        ("Node didn't have enough resource: nvidia.com/gpu, requested: 1", "nvidia.com/gpu"),
        ("Pod ephemeral local storage usage exceeds the total limit of containers 10Gi.", "ephemeral-storage"),
        ('Usage of EmptyDir volume "cache" exceeds the limit "1Gi".', "ephemeral-storage"),
        ("a kubelet with other words", None),
    ],
)
def test_the_resource_that_ran_out_is_read_from_the_kubelets_words(message: str, resource: str | None) -> None:
    assert resource_of(message) == resource


def test_a_sidecar_that_runs_is_not_what_the_pod_waits_for() -> None:
    for restarts, said in (({"restartPolicy": "Always"}, False), ({}, True)):
        found = as_written(kubelet.creating, inits=("proxy",))
        found["spec"]["initContainers"] = [{"name": "proxy", "image": "init:1", **restarts}]
        found["status"]["initContainerStatuses"] = [{"name": "proxy", "state": {"running": {}}}]
        waits = verdict(found)
        assert isinstance(waits, Starting)
        assert ("init container proxy has not ended" in waits.why.message) is said


def test_the_job_controllers_words_become_a_reason() -> None:
    quota = refusal_reason(['Error creating: pods "x" is forbidden: exceeded quota: compute, requested: limits.cpu=1'])
    ranges = refusal_reason(['Error creating: Pod "x" is invalid: containers[0].resources.requests: Invalid value'])
    assert quota is not None
    assert ranges is not None
    assert (quota.reason, "exceeded quota: compute" in quota.message) == ("WaitingForQuota", True)
    assert (ranges.reason, "resources.requests: Invalid value" in ranges.message) == ("ObjectRefused", True)
    assert refusal_reason([]) is None
    unnamed = refusal_reason(['Error creating: pods "x" is forbidden: failed quota: q: must specify limits.cpu'])
    assert unnamed is not None
    assert (unnamed.reason, "must specify limits.cpu" in unnamed.message) == ("ObjectRefused", True)
