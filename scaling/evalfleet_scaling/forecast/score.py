"""How a forecast is judged: weighted quantile loss, coverage overall and on the worst day, sharpness, MASE.

    WQL(a) = 2 mean(pinball_a(D, q)) / mean(D)        0 is perfect; a point forecast has one WQL for all levels
    coverage = share of origins with D <= q            wanted: a
    worst day = least coverage of any 24 h of origins
    sharpness = mean(q) / mean(D)                      less is better among those that cover
    MASE = mean|D - q50| / mean|D - last window|       below 1 beats the naive forecast (Hyndman and Koehler 2006)

Intervals are bootstrap over whole days (of all seeds together), since minutes of one day are far from independent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, lead_time_demand, trailing_sum
from evalfleet_scaling.forecast.mix import pinball

RESAMPLES = 1_000
BLOCKS_OF_SHORT_SERIES = 6


@dataclass(frozen=True, slots=True)
class Sample:
    """Targets and forecasts of one run at the scored origins, in order; all of shape (origins,), no NaN."""

    demand: FloatArray
    forecast: FloatArray
    naive: FloatArray


@dataclass(frozen=True, slots=True)
class Score:
    """Figures of one model, horizon and level; see the module's formulas. `n` counts origins."""

    wql: float
    wql_low: float
    wql_high: float
    coverage: float
    worst_day_coverage: float
    sharpness: float
    mase: float
    n: int


def scored_from(minutes: int) -> int:
    """First scored origin: day 7, or a third of a series too short for that."""
    return min(7 * MINUTES_PER_DAY, minutes // 3)


def sample(values: FloatArray, horizon: int, forecast: FloatArray, first: int) -> Sample:
    """Origins from `first` on where target, forecast and last window are known."""
    demand = lead_time_demand(values, horizon)
    naive = trailing_sum(values, horizon)
    known = ~np.isnan(demand) & ~np.isnan(forecast) & ~np.isnan(naive)
    known[:first] = False
    return Sample(demand[known], forecast[known], naive[known])


def score(samples: Sequence[Sample], level: float, seed: int = 0) -> Score | None:
    """Figures over all samples (seeds) together; None where nothing could be scored or nothing arrived."""
    samples = [one for one in samples if len(one.demand)]
    total = sum(float(one.demand.sum()) for one in samples)
    if not samples or total <= 0:
        return None
    demand, forecast, naive = (
        np.concatenate([getattr(one, name) for one in samples]) for name in ("demand", "forecast", "naive")
    )
    low, high = _interval(samples, level, seed)
    naive_error = float(np.abs(demand - naive).mean())
    return Score(
        wql=float(2 * pinball(demand, forecast, level).sum() / total),
        wql_low=low,
        wql_high=high,
        coverage=float((demand <= forecast).mean()),
        worst_day_coverage=min(worst_day(one.demand <= one.forecast) for one in samples),
        sharpness=float(forecast.sum() / total),
        mase=float(np.abs(demand - forecast).mean()) / naive_error if naive_error > 0 else float("nan"),
        n=len(demand),
    )


def worst_day(covered: np.ndarray) -> float:
    """Least mean of any 1,440 successive origins; of all of them where there are fewer."""
    width = min(MINUTES_PER_DAY, len(covered))
    sums = np.concatenate([[0], np.cumsum(covered)])
    return float((sums[width:] - sums[:-width]).min() / width)


def _interval(samples: Sequence[Sample], level: float, seed: int) -> tuple[float, float]:
    """95 % bootstrap interval of the WQL over days."""
    losses, totals = [], []
    for one in samples:
        blocks = max(len(one.demand) // MINUTES_PER_DAY, BLOCKS_OF_SHORT_SERIES)
        for part in np.array_split(np.arange(len(one.demand)), min(blocks, len(one.demand))):
            losses.append(2 * float(pinball(one.demand[part], one.forecast[part], level).sum()))
            totals.append(float(one.demand[part].sum()))
    picks = np.random.default_rng(seed).integers(0, len(losses), (RESAMPLES, len(losses)))
    sums = np.asarray(totals)[picks].sum(axis=1)
    ratios = np.asarray(losses)[picks].sum(axis=1)[sums > 0] / sums[sums > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)
