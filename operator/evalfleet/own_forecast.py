"""What `evalfleet forecast` says about a user's own arrivals: figures, a sentence, a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalfleet.traces.demand import arrivals_of_table
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.ingest import Arrivals, Finding, ingest
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, lead_time_demand, trailing_sum
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.score import Score, sample, score, scored_from

LEVELS = (0.5, 0.9, 0.95, 0.99)
FEWEST_MINUTES = 120
JUDGED_MINUTES = 2 * MINUTES_PER_DAY
WORTHWHILE = 0.05
"""A forecast must lose at least 5 % less than the tuned last window to be worth a replay of costs."""


class TooShortError(ValueError):
    """The table covers less time than a forecast can be judged on."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One horizon: scores per level, and the last window, scaled by the best factor in hindsight, at level 0.9."""

    horizon_minutes: int
    scores: dict[float, Score]
    last_window: Score | None


@dataclass(frozen=True, slots=True)
class OwnForecast:
    """Everything shown to the user.

    Attributes:
        series: the arrivals by the minute.
        findings: what was wrong with the table.
        forecasts: shape (minutes, horizons, levels).
        judged: one entry per horizon.
        sentence: whether prediction would pay here.
    """

    series: Series
    findings: tuple[Finding, ...]
    forecasts: FloatArray
    judged: tuple[Judged, ...]
    sentence: str


def own_forecast(path: Path, horizons: tuple[int, ...]) -> OwnForecast:
    """Read a table, forecast every minute of it from what came before, and judge.

    Raises:
        TooShortError: less than two hours.
    """
    events = list(arrivals_of_table(path))
    ids = [one[2] for one in events]
    seconds, demand = np.array([one[:2] for one in events], dtype=np.float64).reshape(-1, 2).T
    out = ingest(Arrivals(seconds, demand, ids if all(ids) else ()), path.stem)
    series = out.series
    if len(series) < FEWEST_MINUTES:
        raise TooShortError(
            f"{path.name} covers {len(series)} minutes of arrivals; two hours are needed, a week tells much more. "
            "Expected columns: time (ISO 8601 or Unix seconds) and gpu_seconds."
        )
    horizons = tuple(sorted(horizons))
    parts = Forecaster(Setup(horizons, LEVELS), series.start_minute).advance(series.values)
    forecasts = np.concatenate([part.mixed for part in parts])
    judged = tuple(_judge(series, forecasts, index, horizon) for index, horizon in enumerate(horizons))
    return OwnForecast(series, out.warnings, forecasts, judged, sentence(series, judged))


def _judge(series: Series, forecasts: FloatArray, index: int, horizon: int) -> Judged:
    first = scored_from(len(series))
    values = series.values
    scores = {}
    for column, level in enumerate(LEVELS):
        figures = score([sample(values, horizon, forecasts[:, index, column], first)], level)
        if figures is not None:
            scores[level] = figures
    window = trailing_sum(values, horizon)
    scaled = [score([sample(values, horizon, factor * window, first)], 0.9) for factor in (0.5, 1, 1.5, 2, 3, 4, 6)]
    known = [figures for figures in scaled if figures is not None]
    return Judged(horizon, scores, min(known, key=lambda figures: figures.wql, default=None))


def sentence(series: Series, judged: tuple[Judged, ...]) -> str:
    """Would prediction pay here? One sentence with its numbers; costs are judged by the operator's self-replay."""
    if len(series) < JUDGED_MINUTES:
        hours = len(series) / 60
        return f"Cannot tell yet: {hours:.0f} hours of arrivals are too few to judge; give at least two days."
    gains = [
        (1 - one.scores[0.9].wql / one.last_window.wql, one)
        for one in judged
        if one.last_window is not None and 0.9 in one.scores and one.last_window.wql > 0
    ]
    if not gains:
        return "No: nothing arrived in the judged minutes, so there is nothing to predict."
    gain, best = max(gains, key=lambda pair: pair[0])
    told = (
        f"at {best.horizon_minutes} min the 90 % forecast loses {abs(gain):.0%} {'less' if gain >= 0 else 'more'} than "
        "the last window at its best factor"
    )
    if gain < WORTHWHILE:
        return f"Probably not: {told}; scaling on what has arrived is as good."
    return f"It may, where workers start slower than jobs may wait: {told}; the operator's self-replay decides by cost."


def plot(own: OwnForecast, path: Path, days: float = 3.0) -> None:
    """Quantiles against what arrived over the last `days`, one panel per horizon; PNG or SVG by the suffix."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2 * len(own.judged)), layout="constrained")
    panels = figure.subplots(len(own.judged), 1, squeeze=False)[:, 0]
    shown = slice(max(0, len(own.series) - round(days * MINUTES_PER_DAY)), None)
    hours = np.arange(len(own.series))[shown] / 60
    for index, (panel, one) in enumerate(zip(panels, own.judged, strict=True)):
        levels = own.forecasts[shown, index]
        panel.fill_between(hours, levels[:, 0], levels[:, -1], color="#c6dbef", label="50-99 %", linewidth=0)
        panel.fill_between(hours, levels[:, 0], levels[:, 1], color="#6baed6", label="50-90 %", linewidth=0)
        arrived = lead_time_demand(own.series.values, one.horizon_minutes)[shown]
        panel.plot(hours, arrived, color="#252525", linewidth=0.8, label="arrived")
        panel.set_title(f"Demand of the next {one.horizon_minutes} minutes, known only from the past", loc="left")
        panel.set_ylabel("GPU-seconds")
        panel.set_xlabel("hours since the first arrival")
        panel.legend(loc="upper left", frameon=False, ncols=3)
    figure.savefig(path)
