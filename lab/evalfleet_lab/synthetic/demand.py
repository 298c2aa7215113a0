"""Seeded demand series with the habits of real ones: for tests, benchmarks, and a policy without data of its own.

Each is a pure function of (days, seed): jobs arrive at random with a rate that follows the family's shape, each with a
log-normal size. None is fitted to a trace; the shapes are what evaluation teams describe.
"""

from collections.abc import Callable

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, MINUTES_PER_HOUR, FloatArray, Series

JOB_SECONDS = 600.0
SIZE_SIGMA = 0.8
"""Standard deviation of the log of a job's size: the mean is 1.38 x the median."""
SWING = 0.85
MONDAY = 4 * MINUTES_PER_DAY
"""The first Monday of the Unix epoch, so that weeks start on one."""


def _arrivals(rate: FloatArray, rng: np.random.Generator, name: str) -> Series:
    """Jobs per minute of Poisson counts with mean `rate`, log-normal sizes, summed per minute."""
    counts = rng.poisson(rate)
    sizes = rng.lognormal(np.log(JOB_SECONDS), SIZE_SIGMA, int(counts.sum()))
    minute = np.repeat(np.arange(len(rate)), counts)
    return Series(np.bincount(minute, weights=sizes, minlength=len(rate)).astype(np.float64), MONDAY, name)


def _minutes(days: float) -> FloatArray:
    return np.arange(round(days * MINUTES_PER_DAY), dtype=np.float64)


def _daily(minutes: FloatArray, swing: float = SWING) -> FloatArray:
    """Between 1 - swing at night and 1 + swing in the early afternoon, mean 1."""
    return 1.0 + swing * np.cos(2 * np.pi * (minutes - 14 * MINUTES_PER_HOUR) / MINUTES_PER_DAY)


def _weekly(minutes: FloatArray) -> FloatArray:
    """A third of the demand on Saturday and Sunday."""
    return np.where((minutes // MINUTES_PER_DAY) % 7 >= 5, 1.0 / 3.0, 1.0)


def stationary(days: float, seed: int) -> Series:
    """One job a minute for ever: nothing to learn but the mean."""
    return _arrivals(np.ones_like(_minutes(days)), np.random.default_rng(seed), "stationary")


def diurnal(days: float, seed: int, jobs_per_minute: float = 3.0, swing: float = SWING) -> Series:
    """Working hours and weekends, three jobs a minute on average on a working day."""
    return _arrivals(diurnal_rate(days, jobs_per_minute, swing), np.random.default_rng(seed), "diurnal-weekly")


def diurnal_rate(days: float, jobs_per_minute: float = 3.0, swing: float = SWING) -> FloatArray:
    """Expected jobs of each minute of `diurnal`, shape (minutes,)."""
    minutes = _minutes(days)
    return jobs_per_minute * _daily(minutes, swing) * _weekly(minutes)


def sweeps(days: float, seed: int) -> Series:
    """Four sweeps a day at random, each 20 to 200 jobs within minutes, over a trickle."""
    rng = np.random.default_rng(seed)
    minutes = _minutes(days)
    rate = np.full_like(minutes, 0.05)
    for start in np.flatnonzero(rng.random(len(minutes)) < 4 / MINUTES_PER_DAY):
        length = int(rng.integers(2, 15))
        rate[start : start + length] += rng.uniform(20, 200) / length
    return _arrivals(rate, rng, "bursty-sweeps")


def level_shift(days: float, seed: int) -> Series:
    """Working hours; everything doubles for good after two thirds of the time."""
    minutes = _minutes(days)
    level = np.where(minutes >= len(minutes) * 2 // 3, 2.0, 1.0)
    return _arrivals(2.0 * level * _daily(minutes), np.random.default_rng(seed), "level-shift")


def growth(days: float, seed: int) -> Series:
    """Working hours; demand doubles every two weeks."""
    minutes = _minutes(days)
    level = 2.0 ** (minutes / (14 * MINUTES_PER_DAY))
    return _arrivals(level * _daily(minutes), np.random.default_rng(seed), "growth")


def intermittent(days: float, seed: int) -> Series:
    """A job every two hours or so: most windows are empty."""
    return _arrivals(np.full_like(_minutes(days), 1 / 120), np.random.default_rng(seed), "intermittent")


def checkpoints(days: float, seed: int) -> Series:
    """Trainings that write a checkpoint every 30 to 120 min, each evaluated by 5 to 20 jobs at once."""
    rng = np.random.default_rng(seed)
    minutes = _minutes(days)
    rate = np.full_like(minutes, 0.02)
    start = 0.0
    while start < len(minutes):
        length, period = rng.uniform(0.5, 2.0) * MINUTES_PER_DAY, rng.uniform(30, 120)
        jobs = rng.uniform(5, 20)
        times = np.arange(start, min(start + length, len(minutes)), period) + rng.normal(0, 1, 1)
        np.add.at(rate, np.clip(times.astype(np.int64), 0, len(minutes) - 1), jobs)
        start += rng.exponential(0.5 * MINUTES_PER_DAY)
    return _arrivals(rate, rng, "checkpoint-cadence")


FAMILIES: dict[str, Callable[[float, int], Series]] = {
    "diurnal-weekly": diurnal,
    "bursty-sweeps": sweeps,
    "level-shift": level_shift,
    "growth": growth,
    "intermittent": intermittent,
    "checkpoint-cadence": checkpoints,
}
"""The six families of the benchmark; `stationary` serves the false-alarm rate."""
