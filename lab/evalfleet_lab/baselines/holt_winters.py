"""Holt-Winters with additive trend and daily season, as predictive-horizontal-pod-autoscaler (through statsmodels).

    l <- a (y - s) + (1 - a)(l + b);   b <- B (l - l_before) + (1 - B) b;   s <- g (y - l_before - b_before) + (1 - g) s

It ships no constants: a user gives them or a service of the user's that tunes them. So the published form here is the
best of the grid, online. (Its example has a season of six evaluations and a = B = g = 0.9, which diverges on a season
of a day.) It starts anew at every evaluation from a few stored seasons; here the recursion runs on for ever.
"""

import numpy as np

from evalfleet_lab.baselines.rule import Rule, by_minute, phases
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series

SETTINGS = tuple(
    (a, b, g) for a in (0.02, 0.05, 0.15, 0.3, 0.6) for b in (0.0, 0.005, 0.05) for g in (0.0, 0.05, 0.2, 0.4)
)


def points(series: Series, horizon: int) -> FloatArray:
    """All settings at once, shape (minutes, settings)."""
    loads = phases(series, horizon)
    period = max(1, round(MINUTES_PER_DAY / horizon))
    return by_minute(one_step(loads, np.asarray(SETTINGS), period), len(series), horizon)


def one_step(loads: FloatArray, settings: FloatArray, period: int) -> FloatArray:
    """Forecast of the next load after each; (steps, columns) with settings (n, 3) gives (steps, columns, n).

    Starts with the first load as level, no trend and no season; a NaN is predicted over.
    """
    alpha, beta, gamma = settings.T
    columns, count = loads.shape[1], len(settings)
    level, trend = np.full((columns, count), np.nan), np.zeros((columns, count))
    season = np.zeros((period, columns, count))
    out = np.empty((len(loads), columns, count))
    for step, load in enumerate(loads[:, :, None]):
        here = season[step % period]
        expected = np.where(np.isnan(level), load - here, level + trend)
        known = ~np.isnan(load)
        error = np.where(known, load - here - expected, 0.0)
        before, level = level, expected + alpha * error
        moved = np.where(np.isnan(before), 0.0, level - before)
        trend = np.where(known, beta * moved + (1 - beta) * trend, trend)
        season[step % period] = here + gamma * error
        out[step] = level + trend + season[(step + 1) % period]
    return out


HOLT_WINTERS = Rule("phpa-holt-winters", points, published=None)
