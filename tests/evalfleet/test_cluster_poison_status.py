"""Statuses and children forged by hand: they are believed as far as they can be true, and harm nobody else."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import ApiError, Client
from lifecycle import done_units, samples, toy_units, wait_for_workers, worker_jobs
from operator_bench import Bench, OperatorProcess, bench, condition, has, running_operator, wait_until
from poison import PATIENCE_SECONDS, assert_sane, assert_succeeds, wait_until_stated

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

Object = dict[str, Any]
UNITS = 12
LARGEST = 9_007_199_254_740_991
NEVER, ALWAYS = "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    with bench(shared_cluster, cluster_client, "poison-status", tmp_path_factory.mktemp("poison-status")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(place: Bench) -> Iterator[OperatorProcess]:
    with running_operator(place) as process:
        yield process


@pytest.fixture(autouse=True)
def cleared(place: Bench) -> Iterator[None]:
    yield
    place.kubectl("delete", "evj", "--all", "--wait", "--timeout=120s")


@pytest.fixture
def neighbour(place: Bench) -> Iterator[None]:
    """A job that runs beside, and is as it was."""
    place.create("neighbour", evaluations=[toy_units(2, 0.5)])
    yield
    done = assert_succeeds(place, "neighbour")
    assert done["status"]["samples"] == {"planned": 200, "scored": 200, "executedTwice": 0, "mismatched": 0}


def forge(place: Bench, name: str, **status: Any) -> None:
    """Write the status as somebody who may."""
    place.client.patch(f"{place.job_path(name)}/status", {"status": status})


def forged_condition(kind: str, status: str = "True", moment: str = NEVER) -> Object:
    """A condition that somebody made up."""
    return {"type": kind, "status": status, "reason": "MadeUp", "message": "made up", "lastTransitionTime": moment}


def start(place: Bench, name: str) -> None:
    place.create(name, evaluations=[toy_units(UNITS, 0.5)])


def wait_for_progress(place: Bench, name: str) -> Object:
    return place.wait(name, lambda job: done_units(job) >= 1, PATIENCE_SECONDS)


def begin(place: Bench, name: str) -> Object:
    """A run in the middle of its work."""
    start(place, name)
    return wait_for_progress(place, name)


def assert_whole(place: Bench, name: str) -> Object:
    """It succeeds with every sample counted once."""
    job = assert_succeeds(place, name)
    assert job["status"]["samples"] == {"planned": 1200, "scored": 1200, "executedTwice": 0, "mismatched": 0}
    assert samples(job)
    return job


def conditions(job: Object, moment: str, *others: Object) -> list[Object]:
    """The job's conditions at another time, and others."""
    forged = {known["type"] for known in others}
    kept = [known for known in job["status"]["conditions"] if known["type"] not in forged]
    return [{**known, "lastTransitionTime": moment} for known in kept] + list(others)


FOREIGN = [forged_condition(f"Foreign{n}", moment=ALWAYS) for n in range(4)]
FORGED: dict[str, Object] = {
    "started-in-the-year-one": {"startTime": ALWAYS, "time": {"suspendedSeconds": LARGEST, "queueSeconds": LARGEST}},
    "starts-in-the-year-9999": {"startTime": NEVER, "completionTime": NEVER, "deadlineTime": NEVER},
    "endless-plan": {"plan": {"units": LARGEST, "gpuSeconds": LARGEST, "requests": LARGEST, "tokens": LARGEST}},
    "small-plan": {"plan": {"units": 3, "gpuSeconds": 0}},
    "empty-plan": {"plan": {"units": 0, "requests": 0}},
    "done-already": {"progress": {"unitsDone": LARGEST, "unitsTotal": LARGEST, "percent": 100}},
    "absurd-numbers": {
        "workers": {"desired": LARGEST, "preemptions": LARGEST, "preempted": ["x" * 8] * 1024},
        "cost": {"spent": "-1", "projected": "NaN", "currency": "nothing"},
    },
}


def test_forged_statuses_cost_time_at_most(place: Bench, operator: OperatorProcess, neighbour: None) -> None:
    for name in FORGED:
        start(place, name)
    for name, status in FORGED.items():
        wait_for_progress(place, name)
        forge(place, name, **status)
    for name in FORGED:
        assert_whole(place, name)
    assert_sane(operator, len(FORGED) + 2)


MOMENTS = {"never": NEVER, "always": ALWAYS, "no-zone": "2026-01-01T00:00:00+99:99"}


def test_conditions_that_nobody_stated_at_times_that_never_were_give_way(
    place: Bench, operator: OperatorProcess, neighbour: None
) -> None:
    for name in MOMENTS:
        start(place, name)
    for name, moment in MOMENTS.items():
        job = wait_for_progress(place, name)
        forge(place, name, conditions=conditions(job, moment, *FOREIGN, forged_condition("Suspended", moment=moment)))
    for name in MOMENTS:
        done = assert_whole(place, name)
        stated = done["status"]["conditions"]
        assert len(stated) <= 16
        created = done["metadata"]["creationTimestamp"]
        ours = [known for known in stated if not known["type"].startswith("Foreign")]
        assert [known["type"] for known in ours if not created <= known["lastTransitionTime"] < NEVER] == []
        assert not has(done, "Suspended")
    assert_sane(operator, len(MOMENTS) + 2)


def test_failures_that_never_were_fail_their_own_job_in_words(
    place: Bench, operator: OperatorProcess, neighbour: None
) -> None:
    begin(place, "failures")
    forge(place, "failures", workers={"failures": LARGEST, "failed": [{"uid": "nobody", "count": LARGEST}]})
    wait_until_stated(place, "failures", "Failed", "BackoffLimitExceeded")
    assert_sane(operator, 3)


def test_an_end_that_somebody_made_up_stops_the_workers_and_nothing_else(
    place: Bench, operator: OperatorProcess, neighbour: None
) -> None:
    job = begin(place, "ended")
    forge(place, "ended", conditions=conditions(job, NEVER, forged_condition("Succeeded", "False")))
    wait_until(lambda: not worker_jobs(place, "ended"), "workers of an ended job run on")
    assert_sane(operator, 3)


REFUSED_BY_THE_SERVER: dict[str, Object] = {
    "more than everything": {"progress": {"percent": 101}},
    "less than nothing": {"plan": {"units": -1}},
    "more than a double holds": {"plan": {"units": LARGEST + 1}},
    "no number": {"workers": {"failures": "many"}},
    "no time": {"startTime": "yesterday"},
    "no status": {"conditions": [forged_condition("Ready", "Perhaps")]},
    "a condition without time": {"conditions": [{"type": "Ready", "status": "True", "reason": "X", "message": ""}]},
    "too many conditions": {"conditions": [forged_condition(f"Foreign{n}") for n in range(17)]},
}


def test_a_status_that_makes_no_sense_is_refused_by_the_server(place: Bench) -> None:
    place.create("refused", suspend=True)
    for what, status in REFUSED_BY_THE_SERVER.items():
        assert forging_fails(place, "refused", status), what


def forging_fails(place: Bench, name: str, status: Object) -> bool:
    try:
        forge(place, name, **status)
    except ApiError as error:
        return error.status == 422
    return False


def forged_job(place: Bench, name: str, run: str, owner: Object | None = None, **labels: str) -> None:
    """A Job that pretends to be a worker."""
    pretended = {
        "app.kubernetes.io/managed-by": "evalfleet",
        "evalfleet.io/run": run,
        "evalfleet.io/role": "work",
        "evalfleet.io/slot": "0",
        "evalfleet.io/pool": "spot",
        **labels,
    }
    container = {"name": "c", "image": "elsewhere/image:1", "command": ["true"]}
    annotations = {"evalfleet.io/price-per-hour": "1e999999"}
    template = {
        "metadata": {"labels": pretended, "annotations": annotations},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    owners = {} if owner is None else {"ownerReferences": [owner]}
    place.client.create(
        f"/apis/batch/v1/namespaces/{place.namespace}/jobs",
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": pretended, **owners},
            "spec": {"template": template},
        },
    )


def test_jobs_that_pretend_to_be_workers_are_nobodys(place: Bench, operator: OperatorProcess, neighbour: None) -> None:
    forged_job(place, "impostor", "nobody", **{"evalfleet.io/slot": "first"})
    job = begin(place, "real")
    uid = job["metadata"]["uid"]
    owner = {"apiVersion": "evalfleet.io/v1alpha1", "kind": "EvaluationJob", "name": "real", "uid": uid}
    forged_job(place, "real-w7-1", uid)
    forged_job(place, "real-w8-x", uid, owner={**owner, "controller": True})
    forged_job(place, "real-w9-1", uid, owner={**owner, "controller": True}, **{"evalfleet.io/slot": "9" * 60})
    forged_job(place, "real-finish-x", uid, owner={**owner, "controller": True}, **{"evalfleet.io/role": "finish"})
    forged_job(place, "real-plan-b", uid, owner=owner, **{"evalfleet.io/role": "plan"})
    done = assert_whole(place, "real")
    assert (done["status"]["workers"].get("preemptions", 0), done["status"]["workers"].get("failures", 0)) == (0, 0)
    assert float(done["status"]["cost"]["spent"]) < 1
    assert_sane(operator, 4)


TAKEN = ("run", "plan", "w0-1", "finish-1")


def test_a_name_that_somebody_has_taken_is_told_and_waited_for(
    place: Bench, operator: OperatorProcess, neighbour: None
) -> None:
    for child in TAKEN:
        squat(place, child)
        place.create(f"for-{child}")
    for child in TAKEN:
        told = wait_until_stated(place, f"for-{child}", "Stalled", "ObjectRefused")
        assert f"for-{child}-{child}" in condition(told, "Stalled")["message"]
    assert_sane(operator, len(TAKEN) + 2)
    for child in TAKEN:
        kind = "configmap" if child == "run" else "job"
        place.kubectl("delete", kind, f"for-{child}-{child}", "--wait", "--timeout=60s")
    for child in TAKEN:
        assert_succeeds(place, f"for-{child}")


def squat(place: Bench, child: str) -> None:
    """An object of somebody else under the name that a child of `for-<child>` will have."""
    name = f"for-{child}-{child}"
    if child != "run":
        forged_job(place, name, "nobody")
    else:
        place.client.create(f"/api/v1/namespaces/{place.namespace}/configmaps", {"metadata": {"name": name}})


def test_a_worker_that_is_cut_off_from_its_owner_is_replaced(
    place: Bench, operator: OperatorProcess, neighbour: None
) -> None:
    begin(place, "orphaned")
    (worker,) = worker_jobs(place, "orphaned")
    wait_for_workers(place, "orphaned", 1)
    path = f"/apis/batch/v1/namespaces/{place.namespace}/jobs/{worker['metadata']['name']}"
    place.client.patch(path, {"metadata": {"ownerReferences": None}})
    assert_succeeds(place, "orphaned")
    assert_sane(operator, 3)
    place.client.delete(path, propagationPolicy="Background")
