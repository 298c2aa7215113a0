"""Sharing in the fleet decision: spot by need and fairly, waits that end in time, workers kept and given up."""

from fleet_snapshots import HOUR, ON_DEMAND, SPOT, count, fleet, job, worker

from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.model import PoolObservation, StrategyName


def test_jobs_without_deadline_share_spot_evenly_between_submitters() -> None:
    many = [job(f"many-{i}", deadline_seconds=None, submitter="many") for i in range(6)]
    decision = decide_fleet(fleet(*many, job("one", deadline_seconds=None, submitter="one"), spot=8))
    assert count(decision, "one", SPOT) == 4
    assert sum(count(decision, f"many-{i}", SPOT) for i in range(6)) == 4


def test_a_starving_job_comes_before_the_extra_workers_of_others_and_takes_one_back() -> None:
    rich = job("rich", hours=100, deadline_seconds=None, max_workers=8)
    poor = job("poor", deadline_seconds=None, submitted_seconds=-2 * HOUR)
    holding = tuple(worker("rich", slot) for slot in range(8))
    decision = decide_fleet(fleet(rich, poor, spot=0, workers=holding))
    assert len(decision.of("rich").victims) == 1
    assert decision.of("poor").desired_workers == 1  # on-demand, until the spot worker is free


def test_a_fleet_without_spot_serves_jobs_without_deadline_on_demand() -> None:
    decision = decide_fleet(fleet(job(deadline_seconds=None), pools=(ON_DEMAND,)))
    assert count(decision, "a", ON_DEMAND) == 4


def test_the_queue_wait_sla_starts_one_on_demand_worker_in_time() -> None:
    waiting = job(hours=0.5, deadline_seconds=None, queue_wait_seconds=600.0)
    assert decide_fleet(fleet(waiting, spot=0)).of("a").desired_workers == 0
    due = decide_fleet(fleet(waiting, spot=0, now_seconds=260.0))
    assert count(due, "a", ON_DEMAND) == 1


def test_a_worker_started_for_the_queue_wait_stays_until_spot_replaces_it() -> None:
    served = job(deadline_seconds=None, queue_wait_seconds=600.0, first_ready_seconds=500.0, last_served_seconds=700.0)
    have = (worker("a", 0, ON_DEMAND),)
    still = decide_fleet(fleet(served, spot=0, workers=have, now_seconds=700.0))
    assert count(still, "a", ON_DEMAND) == 1
    assert not still.of("a").victims
    seen = (PoolObservation(SPOT.name, 8, offered_since_seconds=-HOUR),)
    filled = decide_fleet(fleet(served, workers=have, now_seconds=700.0, observations=seen))
    assert (count(filled, "a", SPOT), count(filled, "a", ON_DEMAND)) == (3, 1)
    beside = tuple(worker("a", slot) for slot in range(1, 4))
    replaced = decide_fleet(fleet(served, workers=(*have, *beside), now_seconds=1100.0, observations=seen))
    assert (count(replaced, "a", SPOT), count(replaced, "a", ON_DEMAND)) == (4, 0)


def test_suspended_and_finished_jobs_give_up_their_workers() -> None:
    jobs = (job("suspended", suspended=True), job("done", hours=0))
    decision = decide_fleet(fleet(*jobs, workers=(worker("suspended", 0), worker("done", 3))))
    assert decision.of("suspended").victims == ("suspended-w0",)
    assert decision.of("done").victims == ("done-w3",)
    assert [decision.of(name).reason for name in ("suspended", "done")] == ["Suspended", "AllWorkDone"]


def test_a_narrower_job_loses_its_youngest_workers() -> None:
    have = tuple(worker("a", slot, age_seconds=100.0 * (9 - slot)) for slot in range(4))
    decision = decide_fleet(fleet(job(max_workers=2), workers=have))
    assert set(decision.of("a").victims) == {"a-w2", "a-w3"}


def test_new_workers_take_the_lowest_free_slots() -> None:
    decision = decide_fleet(fleet(job(), workers=(worker("a", 1), worker("a", 7))))
    assert sorted(start.slot for start in decision.of("a").starts) == [0, 2]


def test_the_share_that_a_promise_needs_comes_before_the_surplus_of_another() -> None:
    """Both are promised on 8 on-demand workers; the long job would take all of them and needs less than one."""
    long = job("long", hours=20, max_workers=8, deadline_seconds=40 * HOUR)
    short = job("short", hours=8, max_workers=8, deadline_seconds=3 * HOUR)
    have = tuple(worker("long", slot, ON_DEMAND) for slot in range(8))
    snapshot = fleet(long, short, spot=0, workers=have, strategy=StrategyName.ON_DEMAND_ONLY)
    decision = decide_fleet(snapshot)
    assert count(decision, "short", ON_DEMAND) >= 3
    assert count(decision, "long", ON_DEMAND) >= 1


def test_the_most_spot_a_job_could_have_had_is_remembered_up_to_its_width() -> None:
    first = decide_fleet(fleet(job(), spot=3))
    assert first.memory.most_spot == {"a": 3}
    none = decide_fleet(fleet(job(), spot=0, memory=first.memory))
    assert none.memory.most_spot == {"a": 3}
    more = decide_fleet(fleet(job(), spot=16, workers=(worker("a", 0),), memory=none.memory))
    assert more.memory.most_spot == {"a": 4}
