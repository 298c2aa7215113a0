"""The whole of evalfleet's decision, night by night: the self-replay chooses rule, level and drain target.

Every day at the same hour the settings are judged by their own replay of the last seven days, as in the
self-replay, and the next day runs with the winner. Nothing of a day is known before it is over. Until two days have
passed, reaction with its default setting runs. Where neither way meets the target, the one with less late work runs;
the self-replay, whose word is about cost at the target, says Off there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_lab.tuning.tune import with_settings
from evalfleet_scaling.forecast.fluid_queue import Path, Replay, Totals
from evalfleet_scaling.forecast.grid import Grid, Outcome
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.policy import Candidate, Observation, PolicyFactory, Scenarios, Setting, scenarios_of
from evalfleet_scaling.forecast.self_replay import LEAST_GAIN, Terms

DEFAULT = Setting(1.0, 10.0, 1.0)
FIRST_DAYS = 2
JUDGED_DAYS = 7
AIM = 0.75
"""Share of the late-work target that a setting may use up on the days it is chosen by: the best of many settings on
past days looks better than it is."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs for a day."""

    candidate: Candidate
    setting: Setting
    predicts: bool


@dataclass(frozen=True, slots=True)
class Rivals:
    """Both ways with their grids, replayed over the same series: buckets are days.

    Attributes:
        reaction: what runs unless prediction pays.
        prediction: what runs where it pays.
    """

    reaction: Candidate
    reacted: Grid
    prediction: Candidate
    predicted: Grid


def choose(rivals: Rivals, terms: Terms, day: int, series: int) -> Choice:
    """What the days before `day` recommend: prediction if it may act and was at least 5 % cheaper, else reaction."""
    if day < FIRST_DAYS:
        return Choice(rivals.reaction, DEFAULT, False)
    # The day that just began is no evidence; the first day has workers to start and backlog of nobody's making.
    judged, one = slice(max(1, day - JUDGED_DAYS), day), slice(series, series + 1)
    aim = AIM * terms.late_percent
    reacted = rivals.reacted.best(terms.lead_minutes, aim, judged, one)
    if terms.lead_minutes > terms.tolerated_minutes:
        predicted = rivals.predicted.best(terms.lead_minutes, aim, judged, one)
        if better(predicted, reacted):
            return Choice(rivals.prediction, predicted.setting, True)
    return Choice(rivals.reaction, reacted.setting, False)


def better(predicted: Outcome, reacted: Outcome) -> bool:
    """Whether prediction is at least 5 % cheaper at the target; where neither meets it, whether less work is late."""
    if predicted.met != reacted.met:
        return predicted.met
    if not predicted.met:
        return predicted.late_percent < (1.0 - LEAST_GAIN) * reacted.late_percent
    return predicted.cost <= (1.0 - LEAST_GAIN) * reacted.cost


@dataclass(frozen=True, slots=True)
class Nights:
    """Series run with a new choice every day.

    Attributes:
        terms: of each scenario; scenarios are (series, terms), terms fastest.
        totals: sums per day and scenario.
        choices: of each day, one per scenario.
    """

    terms: tuple[Terms, ...]
    totals: Totals
    choices: tuple[tuple[Choice, ...], ...]


def run_nights(
    series: Sequence[Series], rivals: Mapping[int, Rivals], terms: Sequence[Terms], path: Path | None = None
) -> Nights:
    """Run every series on all terms side by side.

    Args:
        series: the series of the grids, in their order.
        rivals: by lead time.
        terms: all with the same tolerated wait.
        path: filled minute by minute where given, with len(series) x len(terms) scenarios.
    """
    scenarios = night_scenarios(series, terms)
    days = range(-(-len(series[0]) // MINUTES_PER_DAY))
    choices = tuple(_all_choices(series, rivals, terms, day) for day in days)
    replay = Replay(*_of_day(scenarios, choices[0]))
    for day in days:
        if day and choices[day] != choices[day - 1]:
            replay.become(*_of_day(scenarios, choices[day]))
        replay.advance((day + 1) * MINUTES_PER_DAY, path)
    return Nights(tuple(terms) * len(series), replay.tally.totals, choices)


def night_scenarios(series: Sequence[Series], terms: Sequence[Terms]) -> Scenarios:
    """One scenario for each series and terms."""
    base = scenarios_of(series, [1], terms[0].tolerated_minutes, [DEFAULT] * len(terms))
    leads = np.array([one.lead_minutes for one in terms] * len(series))
    return Scenarios(base.series, base.source, leads, base.tolerated_minutes, base.tuning)


def _all_choices(
    series: Sequence[Series], rivals: Mapping[int, Rivals], terms: Sequence[Terms], day: int
) -> tuple[Choice, ...]:
    return tuple(choose(rivals[one.lead_minutes], one, day, index) for index in range(len(series)) for one in terms)


def _of_day(scenarios: Scenarios, choices: tuple[Choice, ...]) -> tuple[PolicyFactory, Scenarios]:
    return lambda today: _EachItsOwn(today, choices), with_settings(scenarios, [choice.setting for choice in choices])


class _EachItsOwn:
    """Scenarios with a policy each."""

    def __init__(self, scenarios: Scenarios, choices: tuple[Choice, ...]) -> None:
        names = np.array([choice.candidate.name for choice in choices])
        candidates = {choice.candidate.name: choice.candidate for choice in choices}
        self.policies = [(names == name, one.factory(scenarios)) for name, one in candidates.items()]

    def wanted(self, observed: Observation) -> FloatArray:
        """Of every scenario what its policy wants."""
        return np.asarray(
            np.select([mine for mine, _ in self.policies], [one.wanted(observed) for _, one in self.policies])
        )


def share_predicting(nights: Nights, first_day: int, scenario: int) -> float:
    """Share of the days from `first_day` on in which prediction acted in a scenario."""
    return float(np.mean([choices[scenario].predicts for choices in nights.choices[first_day:]]))
