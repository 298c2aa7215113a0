"""Setbacks: what goes wrong for a run is tried again less and less often, elsewhere, and never at others' expense."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import kubelet_statuses as kubelet
import pytest
from operator_states import NOW, child, job_state, planned, worker

from evalfleet import limits
from evalfleet.reconcile.children import Phase, child_of
from evalfleet.reconcile.job.state import WorkerView
from evalfleet.reconcile.liveness import Patience
from evalfleet.reconcile.pod_reasons import Whose
from evalfleet.reconcile.policy.setbacks import (
    ANYWHERE,
    Setbacks,
    judge_workers,
    pause_seconds,
    reason_of,
)

Object = dict[str, Any]
PATIENCE = Patience(60, 60, 100)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def view(write: kubelet.Writer, number: int = 0, slot: int = 0, node: str = "n-1", at: float = 0.0) -> WorkerView:
    """A worker as a kubelet leaves its pod: the number-th of its slot, bound at a time."""
    stamp = after(at).isoformat()
    spec = {"nodeName": node, "containers": [{"name": "worker", "image": "i:1"}]}
    bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}
    pod: Object = {"metadata": {"name": "p", "uid": f"pod-{slot}-{number}", "creationTimestamp": stamp}, "spec": spec}
    status = write(pod, lambda later: after(at + later).isoformat())
    pod["status"] = {**status, "conditions": [*status.get("conditions", []), bound]}
    name = f"job-w{slot}-{number}"
    made = child_of({"metadata": {"name": name, "creationTimestamp": stamp}}, [pod], after(at))
    return replace(worker(slot, generation=number, created=after(at)), child=made)


def passes(*looks: tuple[float, list[WorkerView]], own: frozenset[str] = frozenset()) -> Setbacks:
    """What is known after looking at these workers of one job at these seconds."""
    known = Setbacks()
    for seconds, views in looks:
        jobs = {"uid-1": job_state(planned(workers=tuple(views)))}
        known = judge_workers(known, jobs, lambda job, one: PATIENCE, own.__contains__, after(seconds))
    return known


EVICTED = kubelet.evicted()
REJECTED = kubelet.rejected("UnexpectedAdmissionError", kubelet.NO_DEVICES)
NO_SECRET = kubelet.waiting("CreateContainerConfigError", 'secret "s3" not found')


@pytest.mark.parametrize("write", [EVICTED, REJECTED, kubelet.ended(69)])
def test_what_a_kubelet_throws_out_is_given_up_counted_once_and_tried_elsewhere(write: kubelet.Writer) -> None:
    thrown_out = [view(write)]
    once = passes((1, thrown_out))
    assert once == passes((1, thrown_out), (2, thrown_out), (3, thrown_out))
    assert once.lost == {"job-w0-0"}
    assert once.holds_back("uid-1", "spot", after(2))
    assert not once.holds_back("uid-1", "steady", after(2))
    assert not once.holds_back("uid-2", "spot", after(2))
    assert once.avoided(after(2)) == ("n-1",)
    assert once.avoided(after(2 + limits.AVOID_SECONDS)) == ()


def test_pauses_grow_to_a_bound_and_are_spread_by_who_waits() -> None:
    grown = [pause_seconds(count, "uid-1/spot") for count in range(1, 40)]
    assert grown[:5] == sorted(grown[:5])
    most = limits.LONGEST_PAUSE_SECONDS * (1 + limits.PAUSE_SPREAD)
    assert grown[0] <= limits.SETBACK_PAUSE_SECONDS * (1 + limits.PAUSE_SPREAD)
    assert max(grown) <= most
    assert len({pause_seconds(1, f"uid-{n}/spot") for n in range(50)}) == 50


def test_an_eviction_a_minute_is_history_after_a_quiet_while() -> None:
    looks, at = [], 0.0
    for number in range(6):
        looks.append((at, [view(EVICTED, number, at=at)]))
        at += limits.LONGEST_PAUSE_SECONDS + 100
    known = passes(*looks)
    assert known.runs["uid-1"]["spot"].count == 6
    assert passes(*looks, (at + 2 * limits.AVOID_LONGEST_SECONDS, [])) == Setbacks()


def test_after_some_evictions_for_one_resource_the_request_to_raise_is_named() -> None:
    looks = [(400.0 * number, [view(EVICTED, number, at=400.0 * number)]) for number in range(3)]
    setback = passes(*looks).newest("uid-1")
    assert setback is not None
    reason, message = reason_of(setback)
    assert reason == "Evicted"
    assert "evicted 3 times for lack of ephemeral-storage: raise spec.worker.resources.ephemeralStorage" in message
    assert "low on resource: ephemeral-storage" in message
    first = passes(looks[0]).newest("uid-1")
    assert first is not None
    assert first.advice is None


def test_many_workers_thrown_out_at_once_are_one_setback() -> None:
    crowd = [view(EVICTED, slot=slot, node=f"n-{slot}") for slot in range(8)]
    known = passes((1, crowd))
    assert known.runs["uid-1"]["spot"].count == 1
    assert len(known.lost) == len(known.avoided(after(2))) == 8


def test_what_the_jobs_own_objects_break_holds_it_back_everywhere_and_blames_no_machine() -> None:
    early, late = passes((1, [view(NO_SECRET)])), passes((6, [view(NO_SECRET)]))
    assert early == Setbacks()  # a Secret that was made a moment ago is seen by everybody soon
    assert late.lost == {"job-w0-0"}
    assert all(late.holds_back("uid-1", pool, after(7)) for pool in ("spot", "steady"))
    assert late.probes("uid-1")
    assert late.avoided(after(7)) == ()
    setback = late.newest("uid-1")
    assert setback is not None
    assert "Secret s3 does not exist" in reason_of(setback)[1]


def test_a_job_that_is_mended_goes_on_with_all_its_workers() -> None:
    broken, at = (6.0, [view(NO_SECRET)]), 30.0
    mended = passes(broken, (at + 1, [view(kubelet.running, 1, at=at)]))
    assert mended == Setbacks()
    again = passes(broken, (at + 6, [view(NO_SECRET, 1, at=at)]))
    assert again.runs["uid-1"][ANYWHERE].count == 2
    assert again.runs["uid-1"][ANYWHERE].first_seconds == after(6).timestamp()


def test_a_pod_that_does_not_start_in_time_is_tried_elsewhere() -> None:
    hangs = [view(kubelet.creating)]
    assert passes((59, hangs)) == Setbacks()
    known = passes((61, hangs))
    assert (known.lost, known.avoided(after(62))) == ({"job-w0-0"}, ("n-1",))
    assert known.holds_back("uid-1", "spot", after(62))


def test_a_silent_worker_is_replaced() -> None:
    silent = [replace(view(kubelet.running), heard=after(5))]
    assert passes((105, silent)) == Setbacks()
    assert passes((106, silent)).lost == {"job-w0-0"}


def test_a_job_that_waits_for_a_node_by_its_own_fault_lets_the_pool_go() -> None:
    waits = view(kubelet.creating, node="")
    waits.child.pod["status"]["conditions"] = []  # type: ignore[index]
    assert passes((61, [waits])) == Setbacks()
    known = passes((61, [waits]), own=frozenset({"job-w0-0"}))
    assert (known.lost, known.holds_back("uid-1", "spot", after(62))) == ({"job-w0-0"}, True)


def test_a_job_whose_controller_may_create_no_pod_is_held_back() -> None:
    refused = worker(0, Phase.WAITING, reason="ObjectRefused", message="violates PodSecurity", whose=Whose.JOB)
    known = passes((6, [replace(refused, created=NOW)]))
    assert known.lost == {"job-w0-1"}
    assert known.holds_back("uid-1", "steady", after(7))


def test_a_failed_worker_whose_job_will_not_try_again_in_time_is_replaced_after_a_pause() -> None:
    sure = view(kubelet.ended(1), at=0)
    ahead = view(lambda pod, clock: kubelet.ended(1)(pod, lambda later: clock(later + 36000)))
    beside = view(kubelet.ended(1))
    beside.child.pod["status"]["containerStatuses"].append(  # type: ignore[index]
        {"name": "proxy", "state": {"running": {}}}
    )
    assert passes((1, [sure])) == Setbacks()
    for one in (ahead, beside):
        counted = {**planned()["status"], "workers": {"failed": [{"uid": one.uid, "count": 1}]}}
        assert passes((1, [replace(one, failures=1)])) == Setbacks()  # its failure would go with its Job
        jobs = {"uid-1": job_state(planned(workers=(replace(one, failures=1),), status=counted))}
        known = judge_workers(Setbacks(), jobs, lambda job, view: PATIENCE, lambda _: False, after(1))
        assert (known.lost, dict(known.nodes)) == ({"job-w0-0"}, {})
        assert known.holds_back("uid-1", "spot", after(2))


def test_nothing_is_remembered_of_jobs_that_are_gone() -> None:
    known = passes((6, [view(NO_SECRET)]))
    empty: Mapping[str, Any] = {}
    assert judge_workers(known, empty, lambda job, one: PATIENCE, lambda _: False, after(7)).runs == {}
    assert child(Phase.RUNNING).whose is None
