"""Constant: what arrived in the last interval arrives again.

The rule behind the HPA and KEDA (replicas in proportion to the present metric) and `ConstantPredictor` of the planner
of NVIDIA Dynamo (ai-dynamo/dynamo, planner load predictor).
"""

from evalfleet_lab.baselines.rule import Rule
from evalfleet_scaling.forecast.interface import FloatArray, Series
from evalfleet_scaling.forecast.window import Window, trailing_mean_new


def points(series: Series, horizon: int) -> FloatArray:
    """Mean of the observed minutes among the last H, times H; shape (minutes, 1)."""
    window = Window(series.values, 0, series.start_minute)
    return trailing_mean_new(window, horizon)[:, None] * horizon


CONSTANT = Rule("constant", points)
