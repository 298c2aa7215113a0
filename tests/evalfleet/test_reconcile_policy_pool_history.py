"""What passes over the workers teach about pools: launches, start-ups, lives, failed launches, and nothing wrong."""

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from operator_states import NOW, condition, job_state, worker

from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.state import WorkerView
from evalfleet.reconcile.pod_reasons import Whose
from evalfleet.reconcile.policy.pool_history import PoolHistories, follow, observations, standing_aside
from evalfleet_scaling.model import CapacityType, Pool, PoolObservation
from evalfleet_scaling.spot.history import Life
from evalfleet_worker.protocol import Progress

SPOT = Pool("spot", CapacityType.SPOT, Decimal(1), 4, expected_startup_seconds=30)
STEADY = Pool("steady", CapacityType.ON_DEMAND, Decimal(3), 4, expected_startup_seconds=30)
POOLS = (SPOT, STEADY)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def waiting(slot: int = 0, pool: str = "spot", **fields: Any) -> WorkerView:
    """A worker that no node has come for."""
    return worker(slot, Phase.WAITING, pool, pod={"metadata": {"name": "p"}, "spec": {}}, **fields)


def bound(slot: int = 0, pool: str = "spot", state: str | None = None, **fields: Any) -> WorkerView:
    """A running worker on a node; without a state it has not answered yet."""
    answer = None if state is None else Progress("uid-1", "w", state, 10, 0, 100, 0, 0.0, 0.0)
    return worker(slot, Phase.RUNNING, pool, pod=pod(), progress=answer, **fields)


def taken(slot: int = 0) -> WorkerView:
    """A worker whose machine is being taken away."""
    return worker(slot, pod=pod(condition("DisruptionTarget")))


def pod(*conditions: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": "p"}, "spec": {"nodeName": "n"}, "status": {"conditions": conditions}}


def passes(*looks: tuple[float, list[WorkerView]], before: PoolHistories | None = None) -> PoolHistories:
    """What is known after looking at these workers at these seconds."""
    seen = before or PoolHistories()
    for seconds, workers in looks:
        job = replace(job_state(), workers=tuple(workers))
        seen = follow(seen, POOLS, {"uid-1": job}, after(seconds))
    return seen


def observed(seen: PoolHistories, seconds: float, pool: str = "spot") -> PoolObservation:
    return next(item for item in observations(seen, POOLS, after(seconds)) if item.pool_name == pool)


def test_a_worker_is_launched_when_a_node_comes_and_has_started_up_when_it_scores() -> None:
    loading = [bound(state="LoadingModel")]
    seen = passes(
        (0, [waiting()]), (5, loading), (6, loading), (20, [bound(state="Scoring")]), (21, [bound(state="Scoring")])
    )
    history = seen.histories["spot"]
    assert (history.launches, history.startups_seconds, history.lives) == ((True,), (20.0,), ())


def test_a_start_up_is_measured_though_the_first_answer_of_the_worker_is_that_it_scores() -> None:
    seen = passes((0, [waiting()]), (5, [bound()]), (8, [bound(state="Scoring")]))
    assert seen.histories["spot"].startups_seconds == (8.0,)


def test_a_restarted_operator_learns_nothing_from_workers_that_were_there_before_it() -> None:
    seen = passes((3600, [bound()]), (3601, [bound(state="Scoring")]), (3602, [bound(state="Waiting")]))
    history = seen.histories["spot"]
    assert (history.launches, history.startups_seconds, history.lives) == ((), (), ())
    assert seen.overdue == frozenset()


def test_a_restarted_operator_gives_an_old_waiting_worker_one_pass_before_it_judges() -> None:
    first = passes((3600, [waiting()]))
    assert first.overdue == frozenset()
    assert passes((3601, [waiting()]), before=first).overdue == {"job-w0-1"}


@pytest.mark.parametrize(
    ("end", "preempted"),
    [
        pytest.param([taken()], True, id="its machine is taken away"),
        pytest.param([worker(phase=Phase.SUCCEEDED, pod=pod())], False, id="it has nothing left to do"),
        pytest.param([replace(bound(), deleting=True)], False, id="it is deleted"),
        pytest.param([], False, id="its Job is gone"),
    ],
)
def test_a_life_ends_once_and_only_a_machine_taken_away_counts_against_the_pool(
    end: list[WorkerView], preempted: bool
) -> None:
    seen = passes((0, [bound()]), (60, [bound()]), (90, end), (91, end), (92, []))
    assert seen.histories["spot"].lives == (Life(90.0, preempted),)
    assert seen.good_since["spot"] == after(90 if preempted else 0).timestamp()


def test_a_worker_that_never_had_a_node_has_not_lived() -> None:
    assert passes((0, [waiting()]), (10, [])).histories["spot"].lives == ()


def test_living_workers_are_exposure_so_that_the_first_loss_is_no_rate_of_its_own() -> None:
    others = [bound(slot) for slot in range(1, 4)]
    seen = passes((0, [bound(0), *others]), (36, [taken(0), *others]), (36, others))
    assert observed(seen, 36).interruptions_per_hour == pytest.approx(3600 / (4 * 36))


def test_many_workers_without_a_node_are_one_failed_launch_of_their_pool() -> None:
    crowd = [waiting(slot) for slot in range(3)]
    seen = passes((0, crowd), (61, crowd), (62, crowd))
    assert seen.overdue == {"job-w0-1", "job-w1-1", "job-w2-1"}
    assert seen.histories["spot"].launches == (False,)
    assert observed(seen, 62).cool_down_until_seconds == after(61 + 60).timestamp()


def test_pools_fail_each_for_itself_and_only_spot_cools_down() -> None:
    crowd = [waiting(0), waiting(1, "steady")]
    seen = passes((0, crowd), (61, crowd))
    assert {name: history.launches for name, history in seen.histories.items()} == {
        "spot": (False,),
        "steady": (False,),
    }
    assert observed(seen, 61).cool_down_until_seconds is not None
    steady = observed(seen, 61, "steady")
    assert (steady.cool_down_until_seconds, steady.launch_failures) == (None, 1)


def test_two_planned_start_ups_are_waited_for_however_short_they_were_on_nodes_that_were_there() -> None:
    quick = PoolHistories()
    for number in range(20):
        name = {"generation": number + 1, "created": after(-100)}
        quick = passes((-100, [waiting(**name)]), (-99, [bound(state="Scoring", **name)]), (-98, []), before=quick)
    assert quick.histories["spot"].startups_seconds == (1.0,) * 20
    late = {"generation": 9}
    assert passes((0, [waiting(**late)]), (59, [waiting(**late)]), before=quick).overdue == frozenset()
    assert passes((0, [waiting(**late)]), (61, [waiting(**late)]), before=quick).overdue == {"job-w0-9"}


@pytest.mark.parametrize(
    ("workers", "seconds", "offered"),
    [
        pytest.param([], 0, 4, id="nobody asks"),
        pytest.param([bound(0), bound(1)], 10, 2, id="what is used is used"),
        pytest.param([waiting(0)], 10, 3, id="a worker that waits as planned"),
        pytest.param([waiting(0)], 31, 0, id="a worker that waits for longer than planned"),
        pytest.param([bound(slot) for slot in range(6)], 10, 0, id="more than the pool has"),
    ],
)
def test_spot_is_offered_as_long_as_nothing_waits_for_it_longer_than_planned(
    workers: list[WorkerView], seconds: float, offered: int
) -> None:
    assert observed(passes((0, workers), (seconds, workers)), seconds).offered_workers == offered


def test_an_offer_is_as_old_as_the_last_loss() -> None:
    seen = passes((0, [bound()]), (50, [bound()]))
    assert observed(seen, 50).offered_since_seconds == after(0).timestamp()
    assert observed(passes((60, [taken()]), before=seen), 70).offered_since_seconds == after(60).timestamp()


def test_a_clock_that_goes_back_breaks_nothing_and_no_duration_is_negative() -> None:
    seen = passes(
        (0, [waiting()]), (50, [bound(state="LoadingModel")]), (-20, [bound(state="Scoring")]), (-30, [taken()])
    )
    history = seen.histories["spot"]
    assert (history.startups_seconds, history.lives) == ((0.0,), (Life(0.0, preempted=True),))
    assert history.last_event_seconds == after(50).timestamp()
    assert observed(seen, -30).offered_workers == 4


def test_what_was_known_of_a_pool_that_the_policy_has_no_more_is_forgotten() -> None:
    before = passes((0, [waiting()]), (5, [bound()]))
    seen = follow(before, (STEADY,), {"uid-1": replace(job_state(), workers=(bound(),))}, after(6))
    assert (set(seen.histories), dict(seen.workers)) == ({"steady"}, {})


def test_a_worker_whose_own_job_asks_for_more_says_nothing_of_its_pool() -> None:
    picky = replace(job_state(worker={"nodeSelector": {"disk": "none"}}), workers=(waiting(),))
    seen = PoolHistories()
    for seconds in (0, 61, 62):
        seen = follow(seen, POOLS, {"uid-1": picky}, after(seconds))
    assert (seen.overdue, seen.histories["spot"].launches) == (frozenset(), ())
    assert observed(seen, 62).offered_workers == 3


def test_a_pool_that_gives_nodes_to_others_is_not_blamed_for_one_that_waits() -> None:
    seen = PoolHistories()
    for seconds in (0, 5, 61, 62):
        neighbour = waiting(1) if seconds == 0 else bound(1)
        jobs = {"waits": replace(job_state(), workers=(waiting(),)), "runs": replace(job_state(), workers=(neighbour,))}
        seen = follow(seen, POOLS, jobs, after(seconds))
    assert (seen.overdue, seen.histories["spot"].launches) == (frozenset(), (True,))
    assert not seen.workers["job-w0-1"].asks


def test_a_job_that_a_queue_holds_back_says_nothing_of_its_pool() -> None:
    held = worker(0, Phase.WAITING, whose=Whose.OTHER)
    seen = passes((0, [held]), (3600, [held]), (3601, [held]))
    assert (seen.overdue, seen.histories["spot"].launches) == (frozenset(), ())


@pytest.mark.parametrize("pool", ["spot", "steady"])
def test_one_worker_goes_on_asking_and_nobody_counts_on_the_others(pool: str) -> None:
    crowd = [waiting(slot, pool) for slot in range(3)]
    seen = passes((0, crowd), (61, crowd))
    other = Pool("other", CapacityType.ON_DEMAND, Decimal(4), 4, expected_startup_seconds=30)
    aside, asking = standing_aside(seen, (*POOLS, other), after(61))
    assert aside == {"job-w0-1", "job-w1-1", "job-w2-1"}
    assert asking == {"job-w0-1"}


def test_where_no_other_firm_pool_can_be_tried_all_go_on_asking() -> None:
    crowd = [waiting(slot, "steady") for slot in range(3)]
    seen = passes((0, crowd), (61, crowd))
    assert standing_aside(seen, POOLS, after(61)) == (frozenset(), frozenset())
    assert observed(seen, 61, "steady").cool_down_until_seconds is None
