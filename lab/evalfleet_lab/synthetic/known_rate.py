"""Lead-time demand of the synthetic families if their rate were known: the best that any forecast could say.

Jobs arrive at random (Poisson) with a log-normal size, so that the demand of a window with L expected jobs is compound
Poisson. Its characteristic function is exp(L (f - 1)) with f that of one job; quantiles come from its discrete Fourier
transform (Embrechts and Frei 2009, Panjer recursion versus FFT), for a ladder of L, interpolated between the steps.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import lognorm

from evalfleet_lab.synthetic.demand import JOB_SECONDS, SIZE_SIGMA
from evalfleet_scaling.forecast.interface import FloatArray

CELLS = 1 << 15
STEPS = 80
LEAST_JOBS = 0.02


def known_rate_quantiles(rate: FloatArray, lead_minutes: int, levels: Sequence[float]) -> FloatArray:
    """Quantiles of the demand of the next `lead_minutes`, GPU-seconds.

    Args:
        rate: expected jobs of each minute, shape (minutes,); after its end nothing arrives.
        lead_minutes: H.
        levels: in (0, 1).

    Returns:
        Shape (minutes, levels).
    """
    sums = np.concatenate([[0.0], np.cumsum(rate)])
    first = np.arange(1, len(rate) + 1)
    jobs = sums[np.minimum(first + lead_minutes, len(rate))] - sums[first]
    ladder = np.concatenate([[0.0], np.geomspace(LEAST_JOBS, max(1.01 * float(jobs.max()), 2 * LEAST_JOBS), STEPS)])
    table = np.stack([compound_quantiles(float(one), levels) for one in ladder])
    return np.stack([np.interp(jobs, ladder, column) for column in table.T], axis=1)


def compound_quantiles(jobs: float, levels: Sequence[float]) -> FloatArray:
    """Quantiles of the total size of a Poisson number of jobs with mean `jobs`, shape (levels,), GPU-seconds."""
    if jobs <= 0:
        return np.zeros(len(levels))
    mean = JOB_SECONDS * np.exp(SIZE_SIGMA**2 / 2)
    step = mean * (jobs + 10.0 * np.sqrt(jobs) + 30.0) / CELLS
    ends = np.concatenate([[0.0], (np.arange(CELLS) + 0.5) * step])
    sizes = np.diff(lognorm(s=SIZE_SIGMA, scale=JOB_SECONDS).cdf(ends))
    characteristic = np.exp(jobs * (np.fft.rfft(sizes / sizes.sum()) - 1.0))
    cumulative = np.cumsum(np.maximum(np.fft.irfft(characteristic, CELLS), 0.0))
    return np.asarray(step * np.searchsorted(cumulative / cumulative[-1], levels), dtype=np.float64)
