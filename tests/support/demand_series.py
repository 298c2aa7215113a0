"""Demand for tests of forecast, replay and tuning: waves and noise, and forecasts that know what comes."""

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, Series, lead_time_demand
from evalfleet_scaling.forecast.workers import DemandForecast

DAY = MINUTES_PER_DAY


def waves(days: int, period: int = 240, seed: int = 0) -> Series:
    """Demand between 0 and 24 workers in waves, with a little noise."""
    minutes = np.arange(days * DAY)
    rate = 720 * (1 + np.sin(2 * np.pi * minutes / period))
    return Series(rate * np.random.default_rng(seed).uniform(0.9, 1.1, len(minutes)))


def knowing(series: Series, lead: int) -> DemandForecast:
    """What comes, as median and quantile: a forecast that cannot be better."""
    coming = lead_time_demand(np.nan_to_num(series.values), lead)
    quantiles = np.stack([coming, coming], axis=1)[:, None, None, :]
    return DemandForecast((lead,), (0.5, 0.99), quantiles)


def noisy(days: int, seed: int) -> Series:
    minutes = np.arange(days * 60)
    rate = 300 * (1.2 + np.cos(minutes / 60))
    return Series(np.random.default_rng(seed).exponential(rate))


def perfect(series: Series, lead: int) -> DemandForecast:
    """Knows what comes: only to test that `foresight` finds it out."""
    coming = np.convolve(np.nan_to_num(series.values), np.ones(lead))[lead - 1 :][: len(series)]
    ahead = np.concatenate([coming[1:], [0.0]])
    return DemandForecast((lead,), (0.5, 0.99), np.stack([ahead, ahead], axis=1)[:, None, None, :])
