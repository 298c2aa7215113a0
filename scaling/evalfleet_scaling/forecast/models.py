"""What a model behind a member is: raw quantiles of lead-time demand from a window, many minutes at once.

Raw: nothing here is calibrated. `calibrate.py` turns raw quantiles of any model into calibrated ones, `mix.py` weighs
the models. Parts that a model may ask for are in `Scene`, computed once for all of them.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.window import Window


@dataclass(frozen=True, slots=True)
class Setup:
    """What is fixed for the life of a forecaster.

    Attributes:
        horizons: lead times in minutes, ascending.
        quantiles: levels in (0, 1), ascending.
        typical_job: GPU-seconds of a typical job, until arrivals tell.
        declared: GPU-seconds per minute that declared schedules promise on average, the prior of an empty history;
            0 means one typical job an hour.
    """

    horizons: tuple[int, ...]
    quantiles: tuple[float, ...]
    typical_job: float = 600.0
    declared: float = 0.0

    def prior_rate(self) -> float:
        """GPU-seconds per minute expected before anything was seen."""
        return self.declared if self.declared > 0 else self.typical_job / 60.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Facts about the new minutes that several models need.

    Attributes:
        window: the series.
        arrived: shape (new, horizons), demand of the last H minutes, NaN over gaps: the targets that matured now.
        floor: shape (new, horizons), m = max(24 h mean x H, one typical job), the unit of the scores.
        typical: shape (new,), geometric mean of the minutes with arrivals, GPU-seconds.
    """

    window: Window
    arrived: FloatArray
    floor: FloatArray
    typical: FloatArray


@dataclass(frozen=True, slots=True)
class Raw:
    """Raw forecasts of one model.

    Attributes:
        center: shape (new, horizons), the level around which errors are scaled.
        quantiles: shape (new, horizons, quantiles); NaN where the model cannot tell yet.
    """

    center: FloatArray
    quantiles: FloatArray


class Model(Protocol):
    """A forecaster before calibration; keeps its own memory."""

    name: str

    def advance(self, scene: Scene) -> Raw:
        """Take the new minutes and forecast at the end of each."""
        ...


def point(center: FloatArray, setup: Setup) -> Raw:
    """A point forecast: every raw quantile is the center, and calibration alone spreads them."""
    return Raw(center, np.repeat(center[:, :, None], len(setup.quantiles), axis=2))
