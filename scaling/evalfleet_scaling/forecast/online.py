"""The whole of evalfleet's decision on one series, night by night: the gate chooses rule, level and drain target.

Every day at the same hour the settings are judged by their own replay of the last seven days, exactly as the operator's
nightly self-replay does, and the next day runs with the winner. Nothing of a day is known before it is over. Until two
days have passed, reaction with its default setting runs.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.fluid_queue import Ledger, Path, Replay
from evalfleet_scaling.forecast.gate import LEAST_GAIN, Terms
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series
from evalfleet_scaling.forecast.policy import Candidate, Setting, lanes_of
from evalfleet_scaling.forecast.tune import Grid, Outcome, with_settings

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
    """A series run with a new choice every day."""

    ledger: Ledger
    choices: tuple[Choice, ...]


def run_nights(series: Series, index: int, rivals: Rivals, terms: Terms, path: Path | None = None) -> Nights:
    """Run one series; `index` is its place in the grids."""
    base = lanes_of([series], [terms.lead_minutes], terms.tolerated_minutes, [DEFAULT])
    choices = tuple(choose(rivals, terms, day, index) for day in range(-(-len(series) // MINUTES_PER_DAY)))
    replay = Replay(choices[0].candidate.factory, with_settings(base, [choices[0].setting]))
    for day, choice in enumerate(choices):
        if day and choice != choices[day - 1]:
            replay.become(choice.candidate.factory, with_settings(base, [choice.setting]))
        replay.advance((day + 1) * MINUTES_PER_DAY, path)
    return Nights(replay.books.ledger, choices)


def share_predicting(nights: Nights, first_day: int) -> float:
    """Share of the days from `first_day` on in which prediction acted."""
    return float(np.mean([choice.predicts for choice in nights.choices[first_day:]]))
