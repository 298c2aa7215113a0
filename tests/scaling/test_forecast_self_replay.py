"""The self-replay gate: three numbers, a decision, a reason."""

import numpy as np
import pytest
from demand_series import DAY, knowing, waves
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_scaling.forecast.fluid_queue import replay
from evalfleet_scaling.forecast.grid import Outcome
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.policy import Observation, PolicyFactory, Scenarios, Setting, scenarios_of
from evalfleet_scaling.forecast.self_replay import (
    Costs,
    InvalidTermsError,
    SelfReplay,
    SelfReplayDecision,
    Terms,
    decide,
    self_replay,
    static_grid,
)
from evalfleet_scaling.forecast.workers import DemandForecast

SLOW = Terms(15)


def outcome(cost: float, met: bool = True) -> Outcome:
    return Outcome(Setting(0.9, 10.0, 1.0), cost, 0.5 if met else 7.0, met)


def answer(reactive: float, ours: float, static: float, terms: Terms = SLOW) -> SelfReplay:
    return decide(Costs(outcome(reactive), outcome(ours), outcome(static)), terms)


@pytest.mark.parametrize(
    ("costs", "terms", "decision", "reason"),
    [
        ((1.4, 1.2, 2.0), SLOW, SelfReplayDecision.ACTIVE, "PredictionPays"),
        ((1.4, 1.35, 2.0), SLOW, SelfReplayDecision.OFF, "ReactionSuffices"),
        ((1.4, 1.2, 1.1), SLOW, SelfReplayDecision.OFF, "FixedNumberSuffices"),
        ((1.4, 1.2, 2.0), Terms(5), SelfReplayDecision.OFF, "LeadTimeWithinTolerance"),
    ],
)
def test_prediction_acts_only_where_it_pays(
    costs: tuple[float, float, float], terms: Terms, decision: SelfReplayDecision, reason: str
) -> None:
    verdict = answer(*costs, terms)
    assert (verdict.decision, verdict.reason) == (decision, reason)
    assert (verdict.reactive_cost, verdict.proactive_cost, verdict.static_cost) == costs
    assert all(f"{cost:.2f}" in verdict.message for cost in costs)


def test_a_way_that_misses_the_target_has_no_cost() -> None:
    missed = decide(Costs(outcome(1.1), outcome(0.9, met=False), outcome(2.0)), SLOW)
    assert (missed.decision, missed.reason, missed.proactive_cost) == (SelfReplayDecision.OFF, "PredictionLate", None)
    assert "7.0 % late at best" in missed.message
    only = decide(Costs(outcome(1.1, met=False), outcome(9.0), outcome(2.0, met=False)), SLOW)
    assert (only.decision, only.reason) == (SelfReplayDecision.ACTIVE, "PredictionPays")
    nobody = decide(Costs(*(outcome(1.0, met=False) for _ in range(3))), SLOW)
    assert (nobody.decision, nobody.reason) == (SelfReplayDecision.OFF, "TargetOutOfReach")


COSTS = st.floats(1.0, 50.0)


@settings(max_examples=200, deadline=None)
@given(COSTS, COSTS, COSTS, st.floats(0.0, 20.0), st.integers(1, 30))
def test_the_answer_is_monotone_in_every_cost(
    reactive: float, ours: float, static: float, more: float, lead: int
) -> None:
    terms = Terms(lead)
    if answer(reactive, ours, static, terms).decision is SelfReplayDecision.ACTIVE:
        assert ours <= 0.95 * min(reactive, static) + 1e-6
        assert answer(reactive + more, ours, static, terms).decision is SelfReplayDecision.ACTIVE
        assert answer(reactive, ours, static + more, terms).decision is SelfReplayDecision.ACTIVE
    else:
        assert answer(reactive, ours + more, static, terms).decision is SelfReplayDecision.OFF


@pytest.mark.parametrize("terms", [(0, 10, 1.0), (15, -1, 1.0), (15, 10, float("nan")), (15, 10, -2.0)])
def test_terms_that_make_no_sense_are_refused(terms: tuple[int, int, float]) -> None:
    with pytest.raises(InvalidTermsError):
        Terms(*terms)


def knowing_nothing(series: Series, lead: int) -> DemandForecast:
    """Promises twelve times the mean at every quantile."""
    promise = np.full((len(series), 1, 1, 2), 12 * lead * float(np.nanmean(series.values)))
    return DemandForecast((lead,), (0.5, 0.99), promise)


def test_a_good_forecast_of_waves_pays_when_workers_start_slowly_and_a_bad_one_does_not() -> None:
    series = waves(2)
    good = self_replay(series, knowing(series, 15), SLOW)
    assert (good.decision, good.reason) == (SelfReplayDecision.ACTIVE, "PredictionPays")
    assert good.setting.safety > 0
    bad = self_replay(series, knowing_nothing(series, 15), SLOW)
    assert bad.decision is SelfReplayDecision.OFF
    assert bad.reactive_cost == good.reactive_cost
    assert bad.proactive_cost is None or bad.proactive_cost > 2 * (good.proactive_cost or 0.0)


def test_gaps_do_not_count_and_silence_needs_no_prediction() -> None:
    series = waves(3)
    gappy = series.values.copy()
    gappy[500:900] = np.nan
    whole, holed = (static_grid(one, SLOW).best(15, 1.0, slice(1, None)) for one in (series, Series(gappy)))
    assert holed.cost == pytest.approx(whole.cost, rel=0.1)
    silent = self_replay(Series(np.zeros(3 * DAY)), knowing(series, 15), SLOW)
    assert (silent.reason, silent.reactive_cost) == ("NothingArrived", None)
    unseen = self_replay(Series(np.full(3 * DAY, np.nan)), knowing(series, 15), SLOW)
    assert unseen.reason == "TooLittleHistory"


class _Constant:
    def __init__(self, workers: float, count: int) -> None:
        self.answer = np.full(count, workers)

    def wanted(self, _: Observation) -> FloatArray:
        return self.answer


def constant(workers: float) -> PolicyFactory:
    def build(scenarios: Scenarios) -> _Constant:
        return _Constant(workers, len(scenarios))

    return build


def test_the_largest_fixed_number_makes_nothing_late_and_the_smallest_is_the_mean() -> None:
    series = waves(2)
    grid = static_grid(series, SLOW)
    most, least = grid.settings[-1].safety, grid.settings[0].safety
    scenarios = scenarios_of([series], [15], 10, [Setting(1.0, 1.0, 0.0)])
    late = replay(constant(most), scenarios, 60).late[1:]
    assert late.sum() == 0
    assert replay(constant(least - 2), scenarios, 60).late[1:].sum() > 0
    assert least == np.ceil(series.values.mean() / 60)
