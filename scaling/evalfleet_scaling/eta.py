"""When a job will finish: quantiles from rate uncertainty, spot interruptions and start-up, and P(in time).

A job of W GPU-seconds on n workers needs, with the true rate r times the planned lower bound and K interruptions,

    T = delay + W / (n * r) + K * loss / n

r is lognormal: the planned rate is its lower 95 % bound, so log r ~ Normal(z95 * s, s^2) with s the relative error.
K is Poisson with mean (interruptions per worker-hour x worker-hours); each interruption loses one start-up and half a
unit of work of one worker. Quantiles come from a fixed grid of equally likely (r, K) pairs: no random numbers, the same
answer for the same question. A promised job has on-demand behind it: it finishes no later than its workers would on
demand from the latest safe start, at whatever rate they turn out to have.
"""

from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist

import numpy as np

from evalfleet_scaling.arrays import FloatArray
from evalfleet_scaling.checks import require_number
from evalfleet_scaling.errors import ScalingInputError

_Z95 = 1.6448536269514722
_RATES, _INTERRUPTIONS = 64, 32
_EXACT_POISSON = 10_000.0
"""Above this mean the Cornish-Fisher expansion is within one of the quantile, which is relative 1e-4."""


def _normal_quantiles(count: int) -> FloatArray:
    """Standard normal quantiles at the middles of equally likely slices. scipy would cost the operator 60 MB."""
    return np.array([NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)])


_RATE_NORMALS, _INTERRUPTION_NORMALS = _normal_quantiles(_RATES), _normal_quantiles(_INTERRUPTIONS)


class InvalidEtaInputError(ScalingInputError):
    """An input of the ETA is negative or not a number."""


@dataclass(frozen=True, slots=True)
class EtaInput:
    """What a job has and is expected to have. Seconds from now, GPU-seconds at the planned (lower bound) rate."""

    work_left_gpu_seconds: float
    ready_workers: int
    starting_workers: int = 0
    startup_left_seconds: float = 0.0  # mean over the starting workers
    expected_workers: float | None = None  # on average until the end; None: those above
    interruptions_per_hour: float = 0.0  # per worker
    seconds_lost_per_interruption: float = 600.0
    rate_relative_error: float = 0.05
    deadline_seconds: float | None = None  # from now
    guaranteed: bool = False  # admitted with a deadline that on-demand keeps
    fallback_workers: int = 0  # on-demand workers the job gets in the end, when guaranteed
    fallback_startup_seconds: float = 0.0

    def __post_init__(self) -> None:
        for label in (
            "work_left_gpu_seconds",
            "ready_workers",
            "starting_workers",
            "startup_left_seconds",
            "interruptions_per_hour",
            "seconds_lost_per_interruption",
            "rate_relative_error",
            "fallback_workers",
            "fallback_startup_seconds",
        ):
            require_number(InvalidEtaInputError, label, getattr(self, label))
        if self.expected_workers is not None:
            require_number(InvalidEtaInputError, "expected_workers", self.expected_workers)
        if self.deadline_seconds is not None:
            require_number(InvalidEtaInputError, "deadline_seconds", self.deadline_seconds, at_least=-inf)


@dataclass(frozen=True, slots=True)
class Eta:
    """Finish-time distribution, seconds from now; inf: not foreseeable with what the job has."""

    p10: float
    p50: float
    p90: float
    in_time_probability: float | None  # None without a deadline


def estimate_finish(job: EtaInput) -> Eta:
    """Quantiles of the finish time and the probability of meeting the deadline."""
    finish = _finish_times(job)
    p10, p50, p90 = (float(value) for value in _quantiles(finish, (0.1, 0.5, 0.9)))
    if job.deadline_seconds is None:
        return Eta(p10, p50, p90, None)
    return Eta(p10, p50, p90, float((finish <= job.deadline_seconds).mean()))


def _finish_times(job: EtaInput) -> FloatArray:
    """Equally likely finish times over the grid of rates and interruptions."""
    if job.work_left_gpu_seconds <= 0:
        return np.zeros(1)
    rate = _rate_factors(job.rate_relative_error)
    expected = _workers(job)
    if expected <= 0:
        opportunistic = np.full((_RATES, 1), inf)
    else:
        interrupted = _interruptions(job, expected)
        lost = interrupted * job.seconds_lost_per_interruption / expected
        working = job.work_left_gpu_seconds / (expected * rate)
        opportunistic = _delay(job) + working[:, None] + lost[None, :]
    finish: FloatArray = np.minimum(opportunistic, _fallback(job, rate)[:, None]).ravel()
    return finish


def _workers(job: EtaInput) -> float:
    return float(job.ready_workers + job.starting_workers) if job.expected_workers is None else job.expected_workers


def _delay(job: EtaInput) -> float:
    """Start-up still to come, spread over all workers; the whole of it when nobody is ready."""
    everyone = job.ready_workers + job.starting_workers
    return job.startup_left_seconds * job.starting_workers / everyone if everyone else job.fallback_startup_seconds


def _rate_factors(relative_error: float) -> FloatArray:
    """True rate over planned rate at the middles of equally likely slices."""
    result: FloatArray = np.exp(relative_error * (_Z95 + _RATE_NORMALS))
    return result


def _interruptions(job: EtaInput, workers: float) -> FloatArray:
    """Numbers of interruptions until the end at the middles of equally likely slices."""
    median_rate = float(np.exp(job.rate_relative_error * _Z95))
    worker_hours = job.work_left_gpu_seconds / median_rate / 3600
    # Lost time is interrupted as well: a geometric series, cut where interruptions would eat all progress.
    share = min(job.interruptions_per_hour * job.seconds_lost_per_interruption / 3600, 0.9)
    mean = job.interruptions_per_hour * worker_hours / (1 - share)
    if workers <= 0 or mean <= 0:
        return np.zeros(_INTERRUPTIONS)
    return poisson_quantiles(min(mean, 1e9))


def poisson_quantiles(mean: float) -> FloatArray:
    """Quantiles of a Poisson distribution at the middles of equally likely slices: least k with P(N <= k) >= level."""
    if mean > _EXACT_POISSON:
        z = _INTERRUPTION_NORMALS
        rounded: FloatArray = np.round(mean + z * sqrt(mean) + (z * z - 1) / 6)
        return rounded
    counts = np.arange(int(mean + 12 * sqrt(mean) + 20))
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(counts[1:]))))
    cumulative = np.cumsum(np.exp(counts * np.log(mean) - mean - log_factorials))
    levels = (np.arange(_INTERRUPTIONS) + 0.5) / _INTERRUPTIONS
    return np.searchsorted(cumulative, levels).astype(np.float64)


def _fallback(job: EtaInput, rate: FloatArray) -> FloatArray:
    """Finish on demand from the latest safe start, planned with the lower bound of the rate."""
    if not job.guaranteed or job.deadline_seconds is None or job.fallback_workers <= 0:
        return np.full(len(rate), inf)
    planned = job.work_left_gpu_seconds / job.fallback_workers
    start = max(job.deadline_seconds - planned - job.fallback_startup_seconds, 0.0)
    return start + job.fallback_startup_seconds + planned / rate


def _quantiles(values: FloatArray, levels: tuple[float, ...]) -> FloatArray:
    """Values at the levels without interpolation, which infinite values would spoil."""
    ordered = np.sort(values)
    index = np.minimum((np.array(levels) * len(ordered)).astype(np.int64), len(ordered) - 1)
    result: FloatArray = ordered[index]
    return result
