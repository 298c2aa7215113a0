"""The kill switch, the time to live, and edits while a job runs."""

from collections.abc import Iterator
from typing import Any

import pytest
from cluster_client import ApiError, Client
from operator_bench import Bench, bench, condition, has, running_operator, seconds_until, terminal, toy

from evalfleet.local.cluster import LocalCluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

LONG = [toy("long", count="5000", seconds="0.1")]
SHORT = [toy("short", count="200", seconds="0.03")]


@pytest.fixture(scope="module")
def place(
    shared_cluster: LocalCluster, cluster_client: Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("limits")
    with bench(shared_cluster, cluster_client, "limits", folder) as made, running_operator(made):
        yield made


def test_a_job_is_killed_at_its_active_deadline_and_its_pods_go(place: Bench) -> None:
    place.create("killed", evaluations=LONG, activeDeadlineSeconds=12)
    place.wait("killed", lambda job: bool(estimates(job)) or terminal(job))
    job = place.wait("killed", terminal)
    assert condition(job, "Failed")["reason"] == "DeadlineExceeded"
    assert seconds_until(job, "Failed") >= 11
    assert job["status"]["workers"]["ready"] == 0
    assert estimates(job) == []
    place.wait("killed", lambda _: place.children("killed-") == ["configmaps/killed-run"])


def estimates(job: dict[str, Any]) -> list[str]:
    """What a status says of when it will be done."""
    progress = (job.get("status") or {}).get("progress") or {}
    return [name for name in progress if name.startswith("estimated")]


@pytest.mark.slow
def test_a_deadline_set_while_the_job_runs_counts_from_its_start(place: Bench) -> None:
    place.create("edited-deadline", evaluations=LONG)
    place.wait_for("edited-deadline", "WorkersReady")
    place.patch("edited-deadline", activeDeadlineSeconds=1)
    assert condition(place.wait("edited-deadline", terminal), "Failed")["reason"] == "DeadlineExceeded"


@pytest.mark.slow
def test_a_suspended_job_is_not_killed_and_its_deadline_begins_anew(place: Bench) -> None:
    place.create("resumed", evaluations=SHORT, suspend=True, activeDeadlineSeconds=2)
    first = place.wait_for("resumed", "Suspended")["status"]["startTime"]
    place.create("meanwhile", evaluations=LONG, activeDeadlineSeconds=4)
    place.wait("meanwhile", terminal)  # twice the deadline of the suspended one is over
    assert has(place.wait_for("resumed", "Suspended"), "Suspended")
    place.patch("resumed", suspend=False, activeDeadlineSeconds=300)
    job = place.wait("resumed", terminal)
    assert has(job, "Succeeded")
    assert job["status"]["startTime"] > first


@pytest.mark.slow
def test_a_finished_job_goes_after_its_time_to_live_with_all_that_is_its(place: Bench) -> None:
    place.create("mortal", ttlSecondsAfterFinished=0)
    place.wait_until_gone("mortal")
    place.create("late", ttlSecondsAfterFinished=100_000)
    place.wait_for("late", "Succeeded")
    assert place.client.find(place.job_path("late")) is not None
    place.patch("late", ttlSecondsAfterFinished=0)
    place.wait_until_gone("late")


def test_mutable_members_change_a_running_job_and_immutable_ones_are_refused_without_a_trace(place: Bench) -> None:
    place.create("edited", evaluations=SHORT)
    before = place.wait_for("edited", "WorkersReady")
    for member, value in {
        "model": {"uri": "hf://another/model"},
        "evaluations": LONG,
        "store": {"uri": "s3://elsewhere/x"},
        "seed": 5,
        "backoffLimit": 1,
        "policyName": "other",
    }.items():
        with pytest.raises(ApiError, match=f"{member} is immutable: create another EvaluationJob"):
            place.patch("edited", **{member: value})
    place.patch("edited", priority=7, maxWorkers=2, sla={"completionSeconds": 86_400}, ttlSecondsAfterFinished=86_400)
    generation = before["metadata"]["generation"] + 1
    seen = place.wait("edited", lambda job: job["status"].get("observedGeneration") == generation)
    assert seen["spec"]["priority"] == 7
    job = place.wait("edited", terminal)
    assert has(job, "Succeeded"), job["status"]["conditions"]
    assert job["status"]["samples"]["scored"] == 200
