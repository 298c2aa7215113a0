"""The ledger keeps its promise: no missed deadline against any spot behaviour while on-demand can be obtained."""

from dataclasses import replace

import numpy as np
import pytest
from capacity_scenarios import HOUR, ON_DEMAND, SPOT, scenario, view
from hypothesis import given, settings
from hypothesis import strategies as st

from evalfleet_lab.simulate.replay import replay
from evalfleet_lab.simulate.scenario import Faults
from evalfleet_scaling.capacity.elastic_auto import ElasticAuto
from evalfleet_scaling.capacity.rate import rate_lower_bound
from evalfleet_scaling.capacity.registry import STRATEGIES
from evalfleet_scaling.capacity.slack import SlackSettings, decide_by_slack, slack_now
from evalfleet_scaling.capacity.slack_ledger import SlackLedger
from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.model import StrategyName

PLAIN = SlackSettings(reserve=0.0)
GUARANTEEING = [
    STRATEGIES[name]
    for name in (
        StrategyName.ELASTIC_AUTO,
        StrategyName.SLACK_LEDGER,
        StrategyName.ELASTIC_RULE,
        StrategyName.GREEDY,
        StrategyName.UNIFORM_PROGRESS,
        StrategyName.UTILITY,
        StrategyName.STATIC_MIX,
        StrategyName.SPOT_HEDGE,
    )
]


@pytest.mark.parametrize(
    ("slots", "startup_left", "expected"),
    [
        ([ON_DEMAND], [0.0], 3600.0),
        ([ON_DEMAND], [400.0], 3200.0),
        ([SPOT], [0.0], 3000.0),  # lost at once: one start-up
        ([SPOT], [400.0], 2600.0),  # lost when it would be ready
        (None, None, 2700.0),  # one tick and one start-up
    ],
)
def test_slack_is_the_worst_case_of_each_slot(slots, startup_left, expected):
    state = view(slots, width=1, left=HOUR, work=0.0, startup_left=startup_left)
    assert slack_now(state, PLAIN)[0] == pytest.approx(expected)


def test_slack_of_a_slot_is_never_negative():
    assert slack_now(view(width=4, left=60.0, work=0.0), PLAIN)[0] == 0.0


def test_failed_launches_enlarge_the_margin_and_successes_shrink_it():
    settings_ = ElasticAuto().settings
    unknown, good, bad = (slack_now(view(launches=n, failures=f), settings_)[0] for n, f in ((0, 0), (40, 0), (40, 20)))
    assert bad < unknown < good


@pytest.mark.parametrize(
    ("seen", "slack_hours", "started"),
    [
        (8, 17, 0),  # share .2 + .8 / 16 = .25: the line is at 15 h
        (8, 13, 8),
        (4, 29, 0),  # half of the width never seen: (.25 + .65) / 2 = .45, 27 h
        (4, 25, 8),
        (0, 41, 0),  # no spot seen: .65, 39 h
        (0, 37, 8),
    ],
)
def test_the_line_is_lower_for_a_job_with_little_load_and_higher_where_spot_was_never_seen(seen, slack_hours, started):
    """Half the time is left, S0 = 8 * 20 h * 3/4 = 120 h, load 1/4. No spot now."""
    idle = 8 * (300.0 + 600.0)  # a tick and a start-up for every slot
    work = 8 * 10 * HOUR - idle - slack_hours * HOUR
    state = view(width=8, left=10 * HOUR, elapsed=10 * HOUR, work=work, total=40 * HOUR, offered=0, seen=seen)
    plan = decide_by_slack(state, SlackSettings(reserve=0.2, reserve_by_load=0.8, reserve_scarce=0.65))
    assert (plan.slot_pool == ON_DEMAND).sum() == started


@pytest.mark.parametrize(
    ("work_hours", "prices", "settings_", "started"),
    [
        (8, (1.0, 1.5), SlackSettings(0.0, dear_paces=1.5), [2, 1]),  # pace .8: two cheap ones, a third is enough
        (8, (1.0, 1.05), SlackSettings(0.0, dear_paces=1.5), [2, 6]),  # hardly dearer
        (8, (1.0, 1.5), SlackSettings(0.0), [2, 6]),  # not limited
        (75, (1.0, 1.5), SlackSettings(1.0, dear_paces=0.25), [2, 6]),  # below its line: dear spot before on-demand
    ],
)
def test_dear_spot_is_used_only_as_far_as_the_pace_needs_it(work_hours, prices, settings_, started):
    one = view(width=8, left=10 * HOUR, work=work_hours * HOUR, startup=0.0, tick=60.0)
    state = replace(
        one,
        offered=np.array([[2, 100, 6]]),
        steady=np.array([[0, 100, 0]]),
        price=np.array([[prices[0], 3.0, prices[1]]]),
        startup=np.zeros((1, 3)),
        lifetime=np.full((1, 3), np.inf),
        throughput=np.ones(3),
        is_spot=np.array([True, False, True]),
    )
    plan = decide_by_slack(state, settings_)
    assert [(plan.slot_pool == pool).sum() for pool in (0, 2)] == started


@given(
    outages=st.lists(st.integers(0, 3), min_size=30, max_size=60),
    width=st.integers(1, 3),
    tightness=st.floats(0.3, 1.0),
    startup=st.sampled_from([0.0, 200.0, 300.0, 700.0]),
)
@settings(max_examples=80, deadline=None)
def test_no_deadline_is_missed_whatever_spot_does(outages, width, tightness, startup):
    """Assumptions of the guarantee: on-demand within d, the planned rate, a deadline that was feasible at admission."""
    tick = 300.0
    feasible = width * (len(outages) * tick - tick - 4 * startup)
    if feasible <= 0:
        return
    world = scenario(np.array(outages), work=tightness * feasible, width=width, tick=tick, startup=startup)
    for strategy in GUARANTEEING:
        assert replay(world, strategy).lateness_seconds[0] == 0.0, strategy.name


@given(seed=st.integers(0, 10_000), width=st.integers(4, 8))
@settings(max_examples=12, deadline=None)
def test_the_default_keeps_deadlines_though_half_of_the_launches_fail(seed, width):
    """Outside the guarantee, which the margin for unknown launches is made for; one window each, a quarter slack."""
    rng = np.random.default_rng(seed)
    counts = np.repeat(rng.integers(0, 2, 24) * width, rng.integers(1, 12, 24))
    work = 0.7 * width * len(counts) * 300.0
    world = scenario(counts, work=work, width=width)
    assert replay(world, ElasticAuto(), Faults(launch_failure=0.5, seed=seed)).lateness_seconds[0] == 0.0


def test_the_plain_ledger_misses_where_the_default_does_not():
    """Spot comes and goes while half of the launches fail."""
    counts = np.tile([8] * 7 + [0] * 9, 6)
    world = scenario(counts, work=0.8 * 8 * len(counts) * 300.0, width=8)
    faults = [Faults(launch_failure=0.5, seed=seed) for seed in range(8)]
    assert any(replay(world, SlackLedger(), one).missed[0] for one in faults)
    assert not any(replay(world, ElasticAuto(), one).missed[0] for one in faults)


def test_start_ups_that_take_longer_than_planned_are_made_up_for():
    rng = np.random.default_rng(11)
    counts = np.repeat(rng.integers(0, 2, 30) * 8, rng.integers(1, 8, 30))
    world = scenario(counts, work=0.75 * 8 * len(counts) * 300.0, width=8)
    for seed in range(6):
        assert not replay(world, ElasticAuto(), Faults(startup_range=(0.5, 1.5), seed=seed)).missed[0]


def test_a_slower_rate_found_out_on_the_way_is_made_up_for():
    counts = np.tile([4] * 10 + [0] * 6, 8)
    world = scenario(counts, work=0.55 * 4 * len(counts) * 300.0, width=4)
    outcome = replay(world, ElasticAuto(), Faults(rate_factor=0.8, rate_unknown=True, startup_range=(0.5, 1.5)))
    assert not outcome.missed[0]


def test_the_planned_rate_is_discounted_until_it_was_measured():
    rates = [rate_lower_bound(2.0, np.array([s]), np.array([1.6 * s]))[0] for s in (0.0, 600.0, 60_000.0)]
    assert rates[0] == pytest.approx(1.5)
    assert rates[2] == pytest.approx(1.6, rel=0.05)
    assert all(rate < 1.8 for rate in rates)


@pytest.mark.parametrize(("planned", "seconds"), [(float("nan"), 1.0), (0.0, 1.0), (-1.0, 1.0), (1.0, float("nan"))])
def test_a_rate_that_is_no_number_is_refused(planned, seconds):
    with pytest.raises(ScalingInputError):
        rate_lower_bound(planned, np.array([seconds]), np.array([1.0]))
