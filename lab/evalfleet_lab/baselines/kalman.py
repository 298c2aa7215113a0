"""Kalman filter of a local linear trend, as `KalmanPredictor` of the planner of NVIDIA Dynamo.

    level' = level + trend + w,  trend' = trend + u,  y = level + v;   var w = q_level, var u = q_trend, var v = r

The planner's constants are q_level 1, q_trend 0.1, r 10 ("default"), or 10, 1, 5 ("reactive"), on the load itself or on
log(1 + load); the state starts at the first load that is not zero, with covariance 1000 I. The noise is not scaled to
the load; only the ratios matter once the start is forgotten. Forecast: level + trend, cut at 0.
"""

import numpy as np

from evalfleet_lab.baselines.rule import Rule, by_minute, phases
from evalfleet_scaling.forecast.interface import FloatArray, Series

DEFAULT = (1.0, 0.1, 10.0)
REACTIVE = (10.0, 1.0, 5.0)
START_VARIANCE = 1000.0


def points(series: Series, horizon: int) -> FloatArray:
    """The four presets of the planner: default, reactive, and both on the logarithm; shape (minutes, 4)."""
    loads = phases(series, horizon)
    logs = np.log1p(loads)
    with np.errstate(over="ignore"):
        forecasts = [
            one_step(loads, DEFAULT),
            one_step(loads, REACTIVE),
            np.expm1(one_step(logs, DEFAULT)),
            np.expm1(one_step(logs, REACTIVE)),
        ]
    return by_minute(np.stack(forecasts, axis=2), len(series), horizon)


def one_step(loads: FloatArray, noise: tuple[float, float, float]) -> FloatArray:
    """Forecast of the next load after each, every column on its own; shape (steps, columns).

    Loads before the first that is not zero are left out, as in the planner; a NaN is predicted over.
    """
    q_level, q_trend, r = noise
    out = np.full_like(loads, np.nan)
    columns = loads.shape[1]
    started = np.zeros(columns, dtype=bool)
    level, trend = np.zeros(columns), np.zeros(columns)
    # Covariance [[p, c], [c, s]] of the *predicted* state.
    p, c, s = (np.zeros(columns) for _ in range(3))
    for step, load in enumerate(loads):
        first = ~started & (load > 0)
        known = started & ~np.isnan(load)
        gain = np.where(known, 1.0 / (p + r), 0.0)
        innovation = np.where(known, load - level, 0.0)
        level, trend = level + gain * p * innovation, trend + gain * c * innovation
        p, c, s = p - gain * p * p, c - gain * p * c, s - gain * c * c
        level, trend = np.where(first, load, level), np.where(first, 0.0, trend)
        p, s = np.where(first, START_VARIANCE, p), np.where(first, START_VARIANCE, s)
        c = np.where(first, 0.0, c)
        started |= first
        level = level + trend
        p, c, s = p + 2 * c + s + q_level, c + s, s + q_trend
        out[step] = np.where(started, level, load)
    return out


KALMAN = Rule("dynamo-kalman", points)
