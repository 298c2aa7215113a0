"""Demand as a gamma distribution: a prior before anything was seen, then a fading mean and dispersion."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import gammaincinv

from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.models import Raw, Scene, Setup
from evalfleet_scaling.forecast.streams import DiscountedMean, decay_of_half_life

MEAN_HALF_LIFE = 30.0
DISPERSION_HALF_LIFE = 720.0
PRIOR_SHARE = 0.05
LEAST_SHARE_OF_DAY = 0.02
"""The mean never falls below this share of the daily mean: an hour of silence is no proof that demand ended."""


def gamma_quantiles(mean: FloatArray, dispersion: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Quantiles of a gamma with mean and variance/mean given, shape (..., levels)."""
    shape = np.maximum(mean / np.maximum(dispersion, 1e-9), 1e-9)
    scaled = gammaincinv(shape[..., None], np.asarray(levels))
    return np.asarray(scaled * np.maximum(dispersion, 1e-9)[..., None], dtype=np.float64)


@dataclass
class GammaPrior:
    """Stage 0: declared schedules, else one typical job an hour.

    Jobs of exponential size arriving at random have variance/mean = twice the mean size.
    """

    setup: Setup
    name: str = "gamma-prior"

    def advance(self, scene: Scene) -> Raw:
        """The same quantiles for ever."""
        mean = self.setup.prior_rate() * np.asarray(self.setup.horizons, dtype=np.float64)
        levels = gamma_quantiles(mean, np.full_like(mean, 2.0 * self.setup.typical_job), self.setup.quantiles)
        rows = len(scene.window.new)
        return Raw(np.tile(mean, (rows, 1)), np.tile(levels, (rows, 1, 1)))


@dataclass
class EwmaGamma:
    """Stage 1: mean of half-life 30 min, dispersion EWMA(e^2)/EWMA(mean) of half-life 12 h."""

    setup: Setup
    name: str = "ewma-gamma"
    mean: DiscountedMean = field(init=False)
    spread: DiscountedMean = field(init=False)
    before: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.mean = DiscountedMean(np.array([decay_of_half_life(MEAN_HALF_LIFE)]))
        self.spread = DiscountedMean(np.full(2, decay_of_half_life(DISPERSION_HALF_LIFE)))
        self.before = np.array([np.nan])

    def advance(self, scene: Scene) -> Raw:
        """Update mean and dispersion, then quantiles of a gamma with H times the mean."""
        values = scene.window.new
        means = self.mean.advance(values[:, None])[:, 0]
        expected = np.concatenate([self.before, means[:-1]])
        self.before = means[-1:].copy()
        error = np.where(np.isnan(values), np.nan, (values - expected) ** 2)
        moments = self.spread.advance(np.stack([error, np.where(np.isnan(values), np.nan, expected)], axis=1))
        dispersion = self._dispersion(moments, scene.typical)
        horizons = np.asarray(self.setup.horizons, dtype=np.float64)
        floor = LEAST_SHARE_OF_DAY * scene.floor
        center = np.maximum(means[:, None] * horizons, floor)
        return Raw(
            center, gamma_quantiles(center, np.repeat(dispersion[:, None], len(horizons), 1), self.setup.quantiles)
        )

    def _dispersion(self, moments: FloatArray, typical: FloatArray) -> FloatArray:
        """EWMA(e^2)/EWMA(mean), with a twentieth of the prior's mean and variance (a job an hour) added to both."""
        rate = PRIOR_SHARE * typical / 60.0
        square, mean = np.nan_to_num(moments).T
        return np.asarray((square + rate * 2.0 * typical) / np.maximum(mean + rate, 1e-9), dtype=np.float64)
