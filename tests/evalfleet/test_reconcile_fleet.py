"""Which workers, where: spot first, replaced when reclaimed, within quotas, victims when there are too many."""

from typing import Any

from operator_worlds import NOW, disrupted_pod, planned, policy, pool, worker, world

from evalfleet.api.scalingpolicy import ScalingPolicy
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.evaluationjob.world import World as JobWorld
from evalfleet.reconcile.fleet.reconcile import Outcome, reconcile
from evalfleet.reconcile.fleet.simple import decide_simple
from evalfleet.reconcile.fleet.world import World
from evalfleet.reconcile.steps import Create, Delete


def outcome(*jobs: JobWorld, by: ScalingPolicy | None = None) -> Outcome:
    named = {f"uid-{number}": job for number, job in enumerate(jobs, start=1)}
    return reconcile(World(NOW, by or policy(), named), decide_simple)


def starts(found: Outcome) -> list[tuple[str, str]]:
    bodies: list[Any] = [action.body for action in found.actions if isinstance(action, Create)]
    return [(body["metadata"]["name"], body["metadata"]["labels"]["evalfleet.io/pool"]) for body in bodies]


def stops(found: Outcome) -> list[str]:
    return [action.name for action in found.actions if isinstance(action, Delete)]


def test_spot_is_filled_first_and_on_demand_takes_the_rest() -> None:
    by = policy(pool("spot", maxWorkers=2), pool("steady", "OnDemand"))
    found = starts(outcome(world(planned(), maxWorkers=3), by=by))
    assert found == [("job-w0-1", "spot"), ("job-w1-1", "spot"), ("job-w2-1", "steady")]


def test_a_reclaimed_worker_is_removed_and_its_slot_filled_by_the_next_generation() -> None:
    taken = worker(0, pod=disrupted_pod())
    found = outcome(world(planned(workers=(taken, worker(1))), maxWorkers=2))
    assert stops(found) == ["job-w0-1"]
    assert starts(found) == [("job-w0-2", "spot")]


def test_six_of_eight_reclaimed_workers_are_replaced_in_one_pass() -> None:
    by = policy(pool("spot", maxWorkers=8))
    status = {**planned()["status"], "plan": {"units": 100, "requests": 100, "gpuSeconds": 1000}}
    workers = tuple(worker(slot, **({"pod": disrupted_pod()} if slot < 6 else {})) for slot in range(8))
    found = outcome(world(planned(status=status, workers=workers), maxWorkers=8), by=by)
    assert len(stops(found)) == 6
    assert [name for name, _ in starts(found)] == [f"job-w{slot}-2" for slot in range(6)]


def test_a_smaller_width_takes_the_highest_slots() -> None:
    found = outcome(world(planned(workers=tuple(worker(slot) for slot in range(3))), maxWorkers=1))
    assert stops(found) == ["job-w1-1", "job-w2-1"]
    assert starts(found) == []


def test_a_generation_that_was_used_is_never_used_again() -> None:
    found = outcome(world(planned(extra={"generations": {0: 7}}), maxWorkers=1))
    assert starts(found) == [("job-w0-8", "spot")]


def test_the_last_in_line_waits_for_quota_in_words() -> None:
    by = policy(pool("spot", maxWorkers=1))
    found = outcome(world(planned(), priority=0), world(planned(), priority=5), by=by)
    assert found.verdicts["uid-2"].admitted
    assert (found.verdicts["uid-1"].admitted, found.verdicts["uid-1"].reason) == (False, "WaitingForQuota")


def test_the_policys_limit_holds_over_all_pools() -> None:
    assert len(starts(outcome(world(planned(), maxWorkers=8), by=policy(limits={"maxWorkers": 3})))) == 3


def test_a_suspended_job_keeps_no_worker() -> None:
    found = outcome(world(planned(workers=(worker(0), worker(1))), suspend=True))
    assert stops(found) == ["job-w0-1", "job-w1-1"]
    assert starts(found) == []


def test_a_job_that_is_scored_loses_the_workers_that_still_run() -> None:
    found = outcome(world(planned(workers=(worker(0, Phase.SUCCEEDED), worker(1)))))
    assert stops(found) == ["job-w1-1"]


def test_an_unparsable_job_does_not_disturb_the_others() -> None:
    broken = world({"job": None, "problem": "absurd"})
    assert starts(outcome(broken, world(planned(), maxWorkers=1))) == [("job-w0-1", "spot")]


def test_without_a_policy_any_gpu_node_serves() -> None:
    found = reconcile(World(NOW, None, {"uid-1": world(planned(), maxWorkers=1)}), decide_simple)
    assert starts(found) == [("job-w0-1", "default")]
