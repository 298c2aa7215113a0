"""When a job will be done: from its workers, what is starting, the deadline behind it, and how sure that is."""

from datetime import timedelta
from typing import Any

import pytest
from operator_states import NOW, job_state, planned, policy, pool, progress, worker

from evalfleet import limits
from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.job.state import Eta, JobState
from evalfleet.reconcile.policy.decide import scale
from evalfleet.reconcile.policy.pool_history import PoolHistories
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet
from evalfleet_scaling.spot.history import Life, PoolHistory

MIXED = policy(pool("spot", expectedStartupSeconds=10), pool("steady", "OnDemand", expectedStartupSeconds=10))
WORK_SECONDS = 100
"""Of the planned job, for one worker."""


def eta(job: JobState, by: ScalingPolicy = MIXED, seen: PoolHistories | None = None) -> Eta | None:
    return scale(PolicyState(NOW, by, {"uid-1": job}, pool_histories=seen or PoolHistories()), decide_fleet).etas.get(
        "uid-1"
    )


def scoring(slot: int = 0, **fields: Any) -> Any:
    return worker(slot, progress=progress(0, rate=0.0), **fields)


def seconds(found: Eta | None) -> tuple[float, float, float]:
    """Quantiles in seconds from now."""
    assert found is not None
    low, middle, high = ((moment - NOW).total_seconds() for moment in (found.low, found.expected, found.high))
    return low, middle, high


def test_the_estimate_is_a_range_that_ends_with_the_finish_step() -> None:
    low, middle, high = seconds(eta(job_state(planned(workers=(scoring(),)), maxWorkers=1)))
    assert limits.FINISH_SECONDS < low < middle < high <= limits.FINISH_SECONDS + 1.1 * WORK_SECONDS


def test_more_workers_are_sooner_done() -> None:
    one = seconds(eta(job_state(planned(workers=(scoring(),)), maxWorkers=1)))
    two = seconds(eta(job_state(planned(workers=(scoring(), scoring(1))), maxWorkers=2)))
    assert two[1] < one[1]


def test_a_worker_that_starts_is_later_done_than_one_that_scores() -> None:
    running = seconds(eta(job_state(planned(workers=(scoring(),)), maxWorkers=1)))
    fresh = seconds(eta(job_state(planned(workers=(worker(0, Phase.WAITING),)), maxWorkers=1)))
    assert fresh[1] == pytest.approx(running[1] + 10)


def test_a_measured_rate_is_surer_than_a_planned_one() -> None:
    def spread(rate: float, requests: int) -> float:
        answer = progress(5, rate=rate, requests=requests)
        low, middle, high = seconds(eta(job_state(planned(workers=(worker(0, progress=answer),)), maxWorkers=1)))
        return (high - low) / (middle - limits.FINISH_SECONDS)

    assert spread(1.0, 50) < 0.5 * spread(0.0, 0)


def test_an_interruption_costs_a_start_up_and_not_ten_minutes() -> None:
    lives = (*(Life(30.0, preempted=True) for _ in range(2)), Life(120.0, preempted=False))
    seen = PoolHistories({"spot": PoolHistory("spot", lives=lives)})
    job = job_state(planned(workers=(scoring(),)), maxWorkers=1)
    calm, rough = seconds(eta(job)), seconds(eta(job, seen=seen))
    assert calm[2] < rough[2] <= calm[2] + 10 * 12.5


def test_a_promised_deadline_stands_behind_the_estimate_of_a_job_that_waits() -> None:
    job = job_state(planned(), sla={"completionSeconds": 7200}, maxWorkers=2)
    full = policy(pool("spot", maxWorkers=0), pool("steady", "OnDemand", expectedStartupSeconds=10))
    found = eta(job, full)
    assert found is not None
    assert found.in_time is not None
    assert found.in_time >= 0.95  # the planned rate is the lower 95 % bound
    assert seconds(found)[2] <= 7200


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (job_state(planned(), maxWorkers=1, suspend=True), "suspended"),
        (job_state(planned(), maxWorkers=1, sla={"completionSeconds": 70}), "refused"),
        (job_state(planned(), budget={"maxCost": "0.00"}), "has no worker, and nothing promises one"),
        (job_state({"status": {}}), "not planned"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_foretold_of_a_job_whose_end_cannot_be_foreseen(job: JobState, why: str) -> None:
    assert eta(job) is None, why


def test_the_probability_of_being_in_time_falls_with_the_deadline_of_a_job_without_a_promise() -> None:
    def in_time(left: int) -> float:
        """With so many seconds to score in; the job is a minute old."""
        sla = {"completionSeconds": round(60 + left + limits.FINISH_SECONDS), "onInfeasible": "RunAnyway"}
        found = eta(job_state(planned(workers=(scoring(),)), maxWorkers=1, sla=sla), policy(pool("spot")))
        assert found is not None
        assert found.in_time is not None
        return found.in_time

    chances = [in_time(left) for left in (20, 60, 90, 200)]
    assert chances == sorted(chances)
    assert chances[0] == 0.0
    assert chances[-1] == 1.0


def test_the_estimate_of_the_same_world_is_the_same() -> None:
    job = job_state(planned(workers=(scoring(),)), maxWorkers=1)
    assert eta(job) == eta(job)
    assert timedelta(0) < (eta(job) or Eta(NOW, NOW, NOW, None)).expected - NOW
