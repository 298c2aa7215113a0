"""One broken job beside nine healthy ones, whatever breaks it: they never notice, and nothing is done in a hot loop."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import kubelet_statuses as kubelet
import pytest
from operator_states import NOW, job_state, planned, policy, pool, progress, worker

from evalfleet.reconcile.children import child_of
from evalfleet.reconcile.decision import Create, Delete
from evalfleet.reconcile.job.state import JobState
from evalfleet.reconcile.policy.decide import scale
from evalfleet.reconcile.policy.outcome import Outcome
from evalfleet.reconcile.policy.state import PolicyState
from evalfleet_scaling.fleet import decide_fleet

Object = dict[str, Any]
Behaviour = Callable[[Object, float], Object | None]
"""From a pod and its age to what a kubelet has written, None while it has no node."""


def healthy(pod: Object, age: float) -> Object:
    return kubelet.running(pod, kubelet.clock())


def without_secret(pod: Object, age: float) -> Object:
    return kubelet.waiting("CreateContainerConfigError", 'secret "s3" not found')(pod, kubelet.clock())


def without_image(pod: Object, age: float) -> Object:
    return kubelet.waiting("ErrImagePull", "manifest unknown")(pod, kubelet.clock())


def hanging(pod: Object, age: float) -> Object:
    return kubelet.creating(pod, kubelet.clock())


def evicted(pod: Object, age: float) -> Object:
    return (kubelet.running if age < 2 else kubelet.evicted())(pod, kubelet.clock())


def rejected(pod: Object, age: float) -> Object:
    return kubelet.rejected("OutOfcpu", "Node didn't have enough resource: cpu")(pod, kubelet.clock())


def nowhere(pod: Object, age: float) -> None:
    return None


def refused(pod: Object, age: float) -> None:
    return None


BROKEN: dict[str, tuple[Behaviour, Object]] = {
    "its Secret is gone": (without_secret, {}),
    "its image is gone": (without_image, {}),
    "its pods never start": (hanging, {}),
    "its pods are evicted": (evicted, {}),
    "its pods are rejected": (rejected, {}),
    "no node has its labels": (nowhere, {"worker": {"nodeSelector": {"disk": "none"}}}),
    "it may create no pod": (refused, {}),
}


@dataclass
class Fleet:
    """The jobs of a policy, their workers, and what the operator remembers from pass to pass."""

    behaviours: dict[str, Behaviour]
    jobs: dict[str, JobState]
    by: Any
    now: datetime = NOW
    bodies: dict[str, tuple[str, Object, datetime]] = field(default_factory=dict)
    last: Outcome | None = None
    log: list[tuple[float, str, str]] = field(default_factory=list)

    def step(self, seconds: float = 1.0) -> Outcome:
        """A pass of the policy, its actions carried out."""
        self.now += timedelta(seconds=seconds)
        state = PolicyState(self.now, self.by, {uid: self._observed(uid) for uid in self.jobs})
        if self.last is not None:
            known = self.last
            memory = known.decision.memory
            state = replace(state, memory=memory, pool_histories=known.pool_histories, setbacks=known.setbacks)
        self.last = scale(state, decide_fleet)
        for action in self.last.actions:
            if isinstance(action, Delete):
                self._note("delete", action.name)
                del self.bodies[action.name]
            elif isinstance(action, Create):
                name, run = action.body["metadata"]["name"], action.body["metadata"]["labels"]["evalfleet.io/run"]
                self._note("create", name)
                assert name not in self.bodies
                self.bodies[name] = (run, dict(action.body), self.now)
        return self.last

    def _note(self, what: str, name: str) -> None:
        self.log.append(((self.now - NOW).total_seconds(), what, name))

    def _observed(self, uid: str) -> JobState:
        own = [(body, at) for run, body, at in self.bodies.values() if run == uid]
        return replace(self.jobs[uid], now=self.now, workers=tuple(self._view(uid, body, at) for body, at in own))

    def _view(self, uid: str, body: Object, at: datetime) -> Any:
        name, labels = body["metadata"]["name"], body["metadata"]["labels"]
        age, behaviour = (self.now - at).total_seconds(), self.behaviours[uid]
        said = ["Error creating: pods is forbidden: violates PodSecurity"] if behaviour is refused else []
        job = {"metadata": {"name": name, "creationTimestamp": at.isoformat()}}
        child = child_of(job, [] if said else [self._pod(name, body, at, age, behaviour)], self.now, said)
        slot, generation = (int(part) for part in name.rsplit("-w", 1)[1].split("-"))
        answer = progress(1) if child.phase.value == "Running" else None
        view = worker(slot, pool_name=labels["evalfleet.io/pool"], generation=generation, created=at, progress=answer)
        return replace(view, child=child, uid=name)

    def _pod(self, name: str, body: Object, at: datetime, age: float, behaviour: Behaviour) -> Object:
        spec = body["spec"]["template"]["spec"]
        pod = {"metadata": {"name": name, "uid": name, "creationTimestamp": at.isoformat()}, "spec": spec}
        written = behaviour(pod, age) if age >= 1 else None
        if written is None:
            reason = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
            return {**pod, "status": {"phase": "Pending", "conditions": [reason]}}
        bound = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at.isoformat()}
        status = {**written, "conditions": [*written.get("conditions", []), bound]}
        return {**pod, "spec": {**spec, "nodeName": f"node-of-{name}"}, "status": status}


def job(name: str, **spec: Any) -> JobState:
    state = job_state(planned(), maxWorkers=1, **spec)
    return replace(state, identity=replace(state.identity, name=name, uid=f"uid-{name}"))


def fleet(behaviour: Behaviour, spec: Object, kind: str) -> Fleet:
    """Ten jobs on one pool of ten places, the first of which is broken."""
    jobs = {f"uid-j{n}": job(f"j{n}", **(spec if n == 0 else {})) for n in range(10)}
    behaviours = dict.fromkeys(jobs, healthy) | {"uid-j0": behaviour}
    by = policy(pool("only", kind, maxWorkers=10, expectedStartupSeconds=10))
    return Fleet(behaviours, jobs, by)


def assert_no_slot_is_emptied_and_filled(outcome: Outcome) -> None:
    emptied = {action.name.rsplit("-", 1)[0] for action in outcome.actions if isinstance(action, Delete)}
    filled = {str(a.body["metadata"]["name"]).rsplit("-", 1)[0] for a in outcome.actions if isinstance(a, Create)}
    assert not emptied & filled


@pytest.mark.parametrize("kind", ["Spot", "OnDemand"])
@pytest.mark.parametrize(("behaviour", "spec"), BROKEN.values(), ids=BROKEN)
def test_nine_healthy_jobs_never_notice_a_broken_one(behaviour: Behaviour, spec: Object, kind: str) -> None:
    place = fleet(behaviour, spec, kind)
    for _ in range(45):
        outcome = place.step(5.0)
        others = [admission for uid, admission in outcome.admissions.items() if uid != "uid-j0"]
        assert {(admission.reason, admission.setback) for admission in others} == {("Running", None)}
        assert_no_slot_is_emptied_and_filled(outcome)
    healthy_jobs = Counter(name for _, what, name in place.log if what == "create" and not name.startswith("j0-"))
    assert (len(healthy_jobs), set(healthy_jobs.values())) == (9, {1})  # nobody was replaced
    assert not [name for _, what, name in place.log if what == "delete" and not name.startswith("j0-")]
    assert outcome.admissions["uid-j0"].setback is not None
    starts = [at for at, what, name in place.log if what == "create" and name.startswith("j0-")]
    assert 2 <= len(starts) <= 10, starts  # it goes on trying, less and less often
    assert "uid-j0" not in outcome.etas


@pytest.mark.parametrize(("behaviour", "spec"), BROKEN.values(), ids=BROKEN)
def test_a_mended_job_goes_on_by_itself_and_then_rests(behaviour: Behaviour, spec: Object) -> None:
    place = fleet(behaviour, spec, "Spot")
    for _ in range(25):
        place.step(3.0)
    place.behaviours["uid-j0"] = healthy
    for _ in range(40):
        outcome = place.step(10.0)
    assert (outcome.admissions["uid-j0"].reason, outcome.admissions["uid-j0"].setback) == ("Running", None)
    assert not [entry for entry in place.log if entry[0] > 475 - 100]


def test_what_does_not_change_is_left_alone() -> None:
    place = fleet(healthy, {}, "Spot")
    for _ in range(40):
        place.step(3.0)
    assert {at for at, _, _ in place.log} == {3.0}


def by_pool(**behaviours: Behaviour) -> Behaviour:
    """What happens depends on the pool that a pod is for."""
    return lambda pod, age: behaviours[pod["spec"]["nodeSelector"]["pool"]](pod, age)


def alone(behaviour: Behaviour, *pools: Object, **spec: Any) -> Fleet:
    """One job and its pools."""
    return Fleet({"uid-j0": behaviour}, {"uid-j0": job("j0", **spec)}, policy(*pools))


def running_in(place: Fleet) -> list[str]:
    """Pools of the workers that run."""
    state = place._observed("uid-j0")
    return [view.pool for view in state.workers if view.child.phase.value == "Running"]


def quick(name: str, kind: str, price: str) -> Object:
    return pool(name, kind, pricePerHour=price, expectedStartupSeconds=10)


def test_an_on_demand_pool_that_gives_no_node_is_asked_by_one_worker_while_another_pool_is_tried() -> None:
    pools = quick("first", "OnDemand", "2.00"), quick("second", "OnDemand", "3.00")
    place = alone(by_pool(first=nowhere, second=healthy), *pools)
    for _ in range(40):
        outcome = place.step(3.0)
        assert_no_slot_is_emptied_and_filled(outcome)
    assert running_in(place) == ["second"]
    assert outcome.pool_histories.histories["first"].cool_down_until_seconds is not None
    waits = [view.pool for view in place._observed("uid-j0").workers if view.child.phase.value == "Waiting"]
    assert waits == ["first"]
    assert len(place.log) == 2
    place.behaviours["uid-j0"] = healthy
    for _ in range(10):
        place.step(3.0)
    assert len(running_in(place)) == 1  # the one that asked got its node, and was needed no more


@pytest.mark.parametrize("spot", [hanging, without_image, evicted, rejected, nowhere])
def test_a_spot_pool_that_fails_in_any_way_does_not_cost_the_deadline(spot: Behaviour) -> None:
    pools = quick("spot", "Spot", "1.00"), quick("steady", "OnDemand", "3.00")
    place = alone(by_pool(spot=spot, steady=healthy), *pools, sla={"completionSeconds": 420})
    while "steady" not in running_in(place):
        assert_no_slot_is_emptied_and_filled(place.step(3.0))
        age = (place.now - NOW).total_seconds() + 60
        assert age + 100 + 60 <= 420, age  # what is left is done in time, the finish step included


@pytest.mark.parametrize("spot", [hanging, evicted, rejected])
def test_without_a_deadline_a_job_goes_where_it_can_run(spot: Behaviour) -> None:
    pools = quick("spot", "Spot", "1.00"), quick("steady", "OnDemand", "3.00")
    place = alone(by_pool(spot=spot, steady=healthy), *pools)
    for _ in range(60):
        place.step(3.0)
    assert running_in(place) == ["steady"]
