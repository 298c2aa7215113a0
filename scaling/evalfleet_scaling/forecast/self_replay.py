"""The self-replay: would prediction have been cheaper on the arrivals of the last seven days?

Reaction, prediction and a fixed number of workers are replayed with all settings; of each, the cheapest that met the
late-work target counts. Prediction acts (`Active`) only where workers start slower than work may wait, where it met the
target, and where it was at least 5 % cheaper than both others. The three numbers and the reason are published.

A cost is GPU-seconds paid per GPU-second of work: 1.00 is the price of perfection.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np

from evalfleet_scaling.checks import require_count, require_number
from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.fluid_queue import replay
from evalfleet_scaling.forecast.grid import EQUAL, Grid, Outcome, replay_grid
from evalfleet_scaling.forecast.interface import (
    MINUTES_PER_DAY,
    MINUTES_PER_HOUR,
    FloatArray,
    Series,
    trailing_sum,
)
from evalfleet_scaling.forecast.policy import WORKER_SECONDS, Observation, Scenarios, Setting, scenarios_of
from evalfleet_scaling.forecast.workers import REACTIVE, DemandForecast, proactive

LEAST_GAIN = 0.05
REPLAYED_MINUTES = 7 * MINUTES_PER_DAY
FEWEST_MINUTES = 2 * MINUTES_PER_DAY
STATIC_COUNTS = 48
NO_SETTING = Setting(0.0, 0.0, 0.0)


class InvalidTermsError(ScalingInputError):
    """A time, target or cost is not usable."""


class SelfReplayDecision(StrEnum):
    """Whether the forecast may act."""

    ACTIVE = "Active"
    OFF = "Off"


@dataclass(frozen=True, slots=True)
class Terms:
    """What is to be met.

    Attributes:
        lead_minutes: time from order to service, L.
        tolerated_minutes: work that waits longer is late, tau.
        late_percent: late-work target.
    """

    lead_minutes: int
    tolerated_minutes: int = 10
    late_percent: float = 1.0

    def __post_init__(self) -> None:
        require_count(InvalidTermsError, "lead time [min]", self.lead_minutes, at_least=1)
        require_count(InvalidTermsError, "tolerated wait [min]", self.tolerated_minutes)
        require_number(InvalidTermsError, "late-work target [%]", self.late_percent)


@dataclass(frozen=True, slots=True)
class SelfReplay:
    """The answer, for status, event and log alike.

    Attributes:
        decision: Active or Off.
        reason: CamelCase.
        message: one sentence with the numbers.
        reactive_cost: cheapest cost that met the target; None where none did, or nothing was replayed.
        proactive_cost: as above.
        static_cost: as above.
        setting: level, drain target and keeping of the cheapest proactive setting: what Active acts with.
    """

    decision: SelfReplayDecision
    reason: str
    message: str
    reactive_cost: float | None = None
    proactive_cost: float | None = None
    static_cost: float | None = None
    setting: Setting = NO_SETTING


@dataclass(frozen=True, slots=True)
class Costs:
    """Outcomes of the three ways."""

    reactive: Outcome
    proactive: Outcome
    static: Outcome


def decide(costs: Costs, terms: Terms) -> SelfReplay:
    """Compare the three at the same target; first reason that applies."""
    best_other = min(_effective(costs.reactive), _effective(costs.static))
    ours = _effective(costs.proactive)
    if not isfinite(ours) and not isfinite(best_other):
        return _answer(
            costs, terms, "TargetOutOfReach", "No: nothing met the target of {target:g} % late work: {numbers}."
        )
    if terms.lead_minutes <= terms.tolerated_minutes:
        text = "No: workers start in {lead} min and work may wait {tolerated} min, so reacting is in time: {numbers}."
        return _answer(costs, terms, "LeadTimeWithinTolerance", text)
    if not isfinite(ours):
        return _answer(costs, terms, "PredictionLate", "No: prediction did not meet the target: {numbers}.")
    if not isfinite(best_other):
        return _answer(costs, terms, "PredictionPays", "Yes: only prediction met the target: {numbers}.")
    gain = 1.0 - ours / best_other
    if gain < LEAST_GAIN - EQUAL:
        reason = "ReactionSuffices" if _effective(costs.reactive) <= best_other else "FixedNumberSuffices"
        return _answer(costs, terms, reason, f"No: prediction would be {_compared(gain)} the best of the others, "
                     f"and must be {LEAST_GAIN:.0%} cheaper: {{numbers}}.")  # fmt: skip
    text = f"Yes: prediction would be {_compared(gain)} the best of the others: {{numbers}}."
    return _answer(costs, terms, "PredictionPays", text)


def _compared(gain: float) -> str:
    return f"{abs(gain):.0%} {'cheaper' if gain >= 0 else 'dearer'} than"


def _effective(outcome: Outcome) -> float:
    return outcome.cost if outcome.met else float("inf")


def _answer(costs: Costs, terms: Terms, reason: str, text: str) -> SelfReplay:
    three = (("reactive", costs.reactive), ("proactive", costs.proactive), ("static", costs.static))
    numbers = ", ".join(f"{name} {_told(one)}" for name, one in three)
    message = text.format(
        target=terms.late_percent,
        lead=terms.lead_minutes,
        tolerated=terms.tolerated_minutes,
        numbers=f"GPU-seconds paid per GPU-second of work at {terms.late_percent:g} % late work: {numbers}",
    )
    reactive, proactive_, static = (one.cost if one.met else None for _, one in three)
    decision = SelfReplayDecision.ACTIVE if reason == "PredictionPays" else SelfReplayDecision.OFF
    return SelfReplay(decision, reason, message, reactive, proactive_, static, costs.proactive.setting)


def _told(one: Outcome) -> str:
    return f"{one.cost:.2f}" if one.met else f"out of reach ({one.late_percent:.1f} % late at best)"


def self_replay(series: Series, forecast: DemandForecast, terms: Terms) -> SelfReplay:
    """Replay the last seven days of a series three ways and decide.

    Args:
        series: arrivals; only the last seven days are replayed.
        forecast: quantiles made minute by minute from what was known then, shape (len(series), 1, leads, levels).
        terms: what is to be met; `lead_minutes` is one of the forecast's leads.
    """
    recent, told = last_days(series, forecast, REPLAYED_MINUTES)
    known = recent.values[~np.isnan(recent.values)]
    if len(known) < FEWEST_MINUTES:
        hours = len(known) / MINUTES_PER_HOUR
        message = f"Cannot tell yet: {hours:.0f} hours of arrivals are too few to judge; give at least two days."
        return SelfReplay(SelfReplayDecision.OFF, "TooLittleHistory", message)
    if known.sum() <= 0:
        return SelfReplay(
            SelfReplayDecision.OFF, "NothingArrived", "No: nothing arrived, so there is nothing to predict."
        )
    return decide(replay_three(recent, told, terms), terms)


def last_days(series: Series, forecast: DemandForecast, minutes: int) -> tuple[Series, DemandForecast]:
    """The last `minutes` of both."""
    first = max(0, len(series) - minutes)
    recent = Series(series.values[first:], series.start_minute + first, series.name)
    return recent, DemandForecast(forecast.leads, forecast.levels, forecast.quantiles[first:])


def replay_three(series: Series, forecast: DemandForecast, terms: Terms) -> Costs:
    """The cheapest setting of each way that met the target; the first hour starts the workers and is not counted."""
    counted = slice(1, None)
    outcomes = [
        replay_grid(
            candidate, [series], [terms.lead_minutes], terms.tolerated_minutes, MINUTES_PER_HOUR
        ).best(terms.lead_minutes, terms.late_percent, counted)
        for candidate in (REACTIVE, proactive(forecast))
    ]  # fmt: skip
    static = static_grid(series, terms).best(terms.lead_minutes, terms.late_percent, counted)
    return Costs(outcomes[0], outcomes[1], static)


class Constant:
    """A fixed number of workers: `safety`."""

    def __init__(self, scenarios: Scenarios) -> None:
        self.workers = scenarios.tuning.safety

    def wanted(self, _: Observation) -> FloatArray:
        """The number."""
        return self.workers


def static_grid(series: Series, terms: Terms) -> Grid:
    """Fixed numbers of workers between the mean demand and what makes nothing late."""
    counts = np.geomspace(*static_range(series, terms.tolerated_minutes), STATIC_COUNTS)
    settings = tuple(Setting(float(count), 0.0, 0.0) for count in np.unique(np.ceil(counts)))
    scenarios = scenarios_of([series], [terms.lead_minutes], terms.tolerated_minutes, settings)
    totals = replay(Constant, scenarios, MINUTES_PER_HOUR)
    work, late, paid = (part[:, None, None, :] for part in (totals.work, totals.late, totals.paid))
    return Grid(settings, (terms.lead_minutes,), MINUTES_PER_HOUR, work, late, paid)


def static_range(series: Series, tolerated_minutes: int) -> tuple[float, float]:
    """Mean demand in workers, and the number n with A_w <= 60 n (w + tau) for the demand A_w of any w minutes.

    With n workers the oldest work waits at most tau if no window brings more than they serve in its length plus tau.
    """
    values = np.nan_to_num(series.values)
    widths = np.unique(np.geomspace(1, len(values), 40).astype(np.int64)).tolist()
    peaks = [float(trailing_sum(values, width)[width - 1 :].max()) / (width + tolerated_minutes) for width in widths]
    least = max(float(values.mean()) / WORKER_SECONDS, 1.0)
    return least, max(1.1 * max(peaks) / WORKER_SECONDS, least) + 1.0
