"""Properties of an EvaluationJob's status, over random states: all is restated, and nothing is said twice."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from operator_states import NOW, PLAN_REPORT, child, condition, job_state, policy, progress, reported, worker

from evalfleet.kube.mergepatch import merge_patched
from evalfleet.reconcile.children import Phase
from evalfleet.reconcile.conditions import WITHDRAWN, merge
from evalfleet.reconcile.job.decide import OWNED, decide
from evalfleet.reconcile.job.state import Admission, Eta, JobState, Money
from evalfleet.reconcile.job.terminal import stamp

GENERATION = 7
ALWAYS = {"Ready", "Reconciling"}.union(*OWNED.values())
ENDED = [condition("Succeeded"), condition("Ready")]
PASSES = 6
"""From any state to one that does not move by itself: a plan is adopted, a suspension ends, a failure is said."""

words = st.sampled_from(["WaitingForNode", "SecretMissing", "BudgetExhausted", "Running", "DeadlineInfeasible"])
children = st.one_of(
    st.builds(child, st.sampled_from(Phase), reason=words, message=st.just("m")), st.just(reported(PLAN_REPORT))
)
workers = st.lists(
    st.builds(
        worker,
        slot=st.integers(0, 3),
        phase=st.sampled_from(Phase),
        reason=words,
        failures=st.integers(0, 9),
        progress=st.one_of(st.none(), st.builds(progress, st.integers(0, 12))),
        deleting=st.booleans(),
    ),
    max_size=3,
).map(tuple)
conditions = st.lists(
    st.builds(
        condition,
        st.sampled_from(sorted(ALWAYS | WITHDRAWN | {"Foreign"})),
        st.sampled_from(["True", "False", "Unknown"]),
    ),
    max_size=6,
    unique_by=lambda c: c["type"],
)
statuses = st.fixed_dictionaries(
    {"conditions": conditions},
    optional={
        "plan": st.fixed_dictionaries({"units": st.sampled_from([0, 10]), "requests": st.just(100)}),
        "progress": st.fixed_dictionaries({"unitsDone": st.integers(0, 12), "estimatedLow": st.just("x")}),
        "workers": st.just({"desired": 3, "ready": 2, "failures": 1}),
        "startTime": st.just(stamp(NOW - timedelta(seconds=60))),
    },
)
spans = st.integers(-1, 1).map(lambda days: timedelta(days=days))


@st.composite
def states(draw: st.DrawFn) -> JobState:
    """Any state that observing could give, likely or not."""
    spec: dict[str, Any] = {"suspend": draw(st.booleans()), "backoffLimit": 3}
    if draw(st.booleans()):
        spec["sla"] = {"deadlineTime": stamp(NOW + draw(spans))}
    if draw(st.booleans()):
        spec["store"] = None
    if draw(st.booleans()):
        spec["activeDeadlineSeconds"] = draw(st.sampled_from([30, 600]))
    admission = st.builds(
        Admission, st.booleans(), st.integers(0, 3), words, st.just("because"), best_effort=st.booleans()
    )
    moment = spans.map(lambda span: NOW + span)
    eta = st.builds(Eta, moment, moment, moment, st.sampled_from([None, 0.2, 1.0]))
    return job_state(
        {
            "status": draw(statuses),
            "generation": GENERATION,
            "deleting": draw(st.booleans()),
            "policy": draw(st.sampled_from([None, policy(), policy(queueName="team")])),
            "policy_problem": draw(st.sampled_from(["", "pools: no"])),
            "plan": draw(children),
            "finish": draw(children),
            "finish_attempt": 1,
            "workers": draw(workers),
            "admission": draw(st.one_of(st.none(), admission)),
            "money": draw(st.sampled_from([None, Money(Decimal(1), Decimal(3), Decimal(2), "EUR")])),
            "eta": draw(st.one_of(st.none(), eta)),
        },
        **spec,
    )


def after_a_pass(state: JobState) -> dict[str, Any]:
    decision = decide(state)
    merged = merge(state.status.get("conditions") or [], decision.conditions, state.generation, stamp(state.now))
    return merge_patched(dict(state.status), {**decision.status, "conditions": merged})


@settings(max_examples=120)
@given(state=states())
def test_every_pass_restates_every_condition_at_the_current_generation(state: JobState) -> None:
    status = after_a_pass(state)
    generations = {c["type"]: c.get("observedGeneration") for c in status["conditions"] if c["type"] != "Foreign"}
    if not state.terminal:
        assert generations.keys() >= ALWAYS
    assert set(generations.values()) == {GENERATION}
    assert status["observedGeneration"] == GENERATION
    assert not any(c.get("observedGeneration") for c in status["conditions"] if c["type"] == "Foreign")


@settings(max_examples=120)
@given(state=states())
def test_a_state_that_does_not_change_comes_to_rest(state: JobState) -> None:
    for _ in range(PASSES):
        state = replace(state, status=after_a_pass(state))
    assert after_a_pass(state) == state.status


@settings(max_examples=60)
@given(state=states())
def test_no_end_is_foreseen_where_nobody_works(state: JobState) -> None:
    foreseen = "estimatedCompletionTime" in (after_a_pass(state).get("progress") or {})
    assert not foreseen or (state.eta is not None and state.admission is not None and state.admission.admitted)
