"""Linear regression over the last N minutes, as predictive-horizontal-pod-autoscaler.

It fits ordinary least squares to the last `historySize` evaluations and reads the line at the look-ahead. Here the line
is read in the middle of the coming H minutes, which for a line is its mean over them. Its example keeps 6 evaluations.
"""

import numpy as np

from evalfleet_lab.baselines.rule import Rule
from evalfleet_scaling.forecast.interface import FloatArray, Series, trailing_sum

HISTORIES = (6, 15, 60, 240, 720)


def points(series: Series, horizon: int) -> FloatArray:
    """One setting per history size, shape (minutes, settings)."""
    columns = [line_ahead(series.values, history, (horizon + 1) / 2) * horizon for history in HISTORIES]
    return np.stack(columns, axis=1)


def line_ahead(values: FloatArray, history: int, ahead: float) -> FloatArray:
    """Least-squares line through the last `history` minutes, `ahead` minutes on; shape (minutes,), NaN over gaps.

    With x = 0 now, -1 a minute ago, ...: slope = sum((x - mean x) y) / sum((x - mean x)^2).
    """
    total = trailing_sum(values, history)
    weighted = trailing_sum(np.arange(len(values)) * values, history)
    now = np.arange(len(values), dtype=np.float64)
    mean_x = -(history - 1) / 2
    spread = history * (history**2 - 1) / 12
    slope = (weighted - now * total - mean_x * total) / spread
    return total / history + slope * (ahead - mean_x)


LINEAR = Rule("phpa-linear", points)
