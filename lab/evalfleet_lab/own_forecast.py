"""What `evalfleet forecast` says about a user's own arrivals: figures, a sentence, a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evalfleet_lab.traces.demand import arrivals_of_table
from evalfleet_scaling.forecast.forecaster import Forecaster
from evalfleet_scaling.forecast.ingest import Arrivals, Finding, ingest
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series, lead_time_demand
from evalfleet_scaling.forecast.models import Setup
from evalfleet_scaling.forecast.score import Score, sample, score, scored_from
from evalfleet_scaling.forecast.self_replay import SelfReplay, Terms, self_replay
from evalfleet_scaling.forecast.workers import DemandForecast

LEVELS = (0.5, 0.9, 0.95, 0.99)
FEWEST_MINUTES = 120


class TooShortError(ValueError):
    """The table covers less time than a forecast can be judged on."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One horizon: scores per level."""

    horizon_minutes: int
    scores: dict[float, Score]


@dataclass(frozen=True, slots=True)
class OwnForecast:
    """Everything shown to the user.

    Attributes:
        series: the arrivals by the minute.
        findings: what was wrong with the table.
        forecasts: shape (minutes, horizons, levels).
        judged: one entry per horizon.
        self_replay: whether prediction would pay here, with the costs that say so.
    """

    series: Series
    findings: tuple[Finding, ...]
    forecasts: FloatArray
    judged: tuple[Judged, ...]
    self_replay: SelfReplay


def own_forecast(path: Path, horizons: tuple[int, ...], terms: Terms | None = None) -> OwnForecast:
    """Read a table, forecast every minute of it from what came before, judge, and replay what workers would have cost.

    Args:
        path: the table.
        horizons: minutes.
        terms: what the workers are to meet; default: the longest horizon as lead time.

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
    terms = terms or Terms(max(horizons))
    horizons = tuple(sorted({*horizons, terms.lead_minutes}))
    parts = Forecaster(Setup(horizons, LEVELS), series.start_minute).advance(series.values)
    forecasts = np.concatenate([part.mixed for part in parts])
    judged = tuple(_judge(series, forecasts, index, horizon) for index, horizon in enumerate(horizons))
    answer = self_replay(series, DemandForecast(horizons, LEVELS, forecasts[:, None]), terms)
    return OwnForecast(series, out.warnings, forecasts, judged, answer)


def _judge(series: Series, forecasts: FloatArray, index: int, horizon: int) -> Judged:
    first = scored_from(len(series))
    values = series.values
    scores = {}
    for column, level in enumerate(LEVELS):
        figures = score([sample(values, horizon, forecasts[:, index, column], first)], level)
        if figures is not None:
            scores[level] = figures
    return Judged(horizon, scores)


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
