"""The whole of evalfleet's decision, night by night: the gate chooses rule, level and drain target.

Every day at the same hour the settings are judged by their own replay of the last seven days, as in the self-replay of
the gate, and the next day runs with the winner. Nothing of a day is known before it is over. Until two days have
passed, reaction with its default setting runs. Where neither way meets the target, the one with less late work runs;
the gate, whose word is about cost at the target, says Off there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_lab.tuning.tune import with_settings
from evalfleet_scaling.forecast.fluid_queue import Ledger, Path, Replay
from evalfleet_scaling.forecast.gate import LEAST_GAIN, Terms
from evalfleet_scaling.forecast.grid import Grid, Outcome
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.policy import Candidate, Lanes, Observation, PolicyFactory, Setting, lanes_of

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
        terms: of each lane; lanes are (series, terms), terms fastest.
        ledger: sums per day and lane.
        choices: of each day, one per lane.
    """

    terms: tuple[Terms, ...]
    ledger: Ledger
    choices: tuple[tuple[Choice, ...], ...]


def run_nights(
    series: Sequence[Series], rivals: Mapping[int, Rivals], terms: Sequence[Terms], path: Path | None = None
) -> Nights:
    """Run every series on all terms side by side.

    Args:
        series: the series of the grids, in their order.
        rivals: by lead time.
        terms: all with the same tolerated wait.
        path: filled minute by minute where given, with len(series) x len(terms) lanes.
    """
    lanes = night_lanes(series, terms)
    days = range(-(-len(series[0]) // MINUTES_PER_DAY))
    choices = tuple(_all_choices(series, rivals, terms, day) for day in days)
    replay = Replay(*_of_day(lanes, choices[0]))
    for day in days:
        if day and choices[day] != choices[day - 1]:
            replay.become(*_of_day(lanes, choices[day]))
        replay.advance((day + 1) * MINUTES_PER_DAY, path)
    return Nights(tuple(terms) * len(series), replay.books.ledger, choices)


def night_lanes(series: Sequence[Series], terms: Sequence[Terms]) -> Lanes:
    """One lane for each series and terms."""
    base = lanes_of(series, [1], terms[0].tolerated_minutes, [DEFAULT] * len(terms))
    leads = np.array([one.lead_minutes for one in terms] * len(series))
    return Lanes(base.series, base.source, leads, base.tolerated_minutes, base.tuning)


def _all_choices(
    series: Sequence[Series], rivals: Mapping[int, Rivals], terms: Sequence[Terms], day: int
) -> tuple[Choice, ...]:
    return tuple(choose(rivals[one.lead_minutes], one, day, index) for index in range(len(series)) for one in terms)


def _of_day(lanes: Lanes, choices: tuple[Choice, ...]) -> tuple[PolicyFactory, Lanes]:
    return lambda today: _EachItsOwn(today, choices), with_settings(lanes, [choice.setting for choice in choices])


class _EachItsOwn:
    """Lanes with a policy each."""

    def __init__(self, lanes: Lanes, choices: tuple[Choice, ...]) -> None:
        names = np.array([choice.candidate.name for choice in choices])
        candidates = {choice.candidate.name: choice.candidate for choice in choices}
        self.policies = [(names == name, one.factory(lanes)) for name, one in candidates.items()]

    def wanted(self, seen: Observation) -> FloatArray:
        """Of every lane what its policy wants."""
        return np.asarray(
            np.select([mine for mine, _ in self.policies], [one.wanted(seen) for _, one in self.policies])
        )


def share_predicting(nights: Nights, first_day: int, lane: int) -> float:
    """Share of the days from `first_day` on in which prediction acted in a lane."""
    return float(np.mean([choices[lane].predicts for choices in nights.choices[first_day:]]))
