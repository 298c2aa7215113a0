"""Two-sided confidence intervals, each with the name of its method.

Sources: Wilson 1927; Clopper & Pearson 1934; Miller 2024 (arXiv:2411.00640) for clustered standard errors;
Bowyer et al. 2025 (arXiv:2503.01747) for small n; Fisher 1915 and Bonett & Wright 2000 for correlations.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

CONFIDENCE = 0.95
SMALL_N = 300
"""Below this a proportion gets the exact interval: Wilson's undercovers near 0 and 1."""

CONSTANT = "every sample gives the same value, no interval"
ROUNDING = 1e-13
"""Standard errors below this share of the value are rounding: the samples are equal."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its standard error and interval; None where the data do not determine it.

    Attributes:
        n: independent observations.
        method: how `low` and `high` were computed.
    """

    value: float
    standard_error: float | None
    low: float | None
    high: float | None
    n: int
    method: str


def normal_quantile(confidence: float) -> float:
    """Z with `confidence` of the standard normal between -z and z."""
    return float(special.ndtri(0.5 + confidence / 2))


def student_quantile(confidence: float, degrees: int) -> float:
    """Quantile t with `confidence` of Student's distribution between -t and t."""
    return float(special.stdtrit(degrees, 0.5 + confidence / 2))


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a proportion."""
    z = normal_quantile(confidence)
    p = successes / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact (Beta-quantile) interval of a proportion; never covers less than `confidence`."""
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(special.betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


def proportion(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """A proportion: Clopper-Pearson below `SMALL_N`, Wilson from there on."""
    exact = n < SMALL_N
    low, high = (clopper_pearson if exact else wilson)(successes, n, confidence)
    value = successes / n
    # Bessel-corrected, as lm-eval's mean_stderr: sqrt(p (1 - p) / (n - 1)).
    error = math.sqrt(value * (1 - value) / (n - 1)) if n > 1 else None
    return Interval(value, error, low, high, n, "Clopper-Pearson" if exact else "Wilson")


def mean(values: Sequence[float] | Values, confidence: float = CONFIDENCE) -> Interval:
    """A mean with its central-limit standard error s / sqrt(n) and Student's t interval (n - 1 degrees)."""
    data = np.asarray(values, dtype=np.float64)
    value = math.fsum(data) / data.size
    if data.size < 2:
        return Interval(value, None, None, None, int(data.size), "mean")
    error = float(data.std(ddof=1)) / math.sqrt(data.size)
    return _symmetric(value, error, student_quantile(confidence, data.size - 1), int(data.size), "CLT mean")


def clustered_mean(
    values: Sequence[float] | Values, clusters: Sequence[Hashable], confidence: float = CONFIDENCE
) -> Interval:
    """A mean whose samples share sources, with the cluster-robust standard error.

    SE^2 = G / (G - 1) * sum over clusters of (sum of residuals in the cluster)^2 / n^2, with G clusters
    (Miller 2024, eq. 4, with the small-sample factor of Liang & Zeger 1986).
    """
    data = np.asarray(values, dtype=np.float64)
    numbers: dict[Hashable, int] = {}
    members = np.asarray([numbers.setdefault(cluster, len(numbers)) for cluster in clusters])
    count = len(numbers)
    value = math.fsum(data) / data.size
    if count < 2:
        return Interval(value, None, None, None, int(data.size), "clustered mean")
    sums = np.bincount(members, weights=data - value, minlength=count)
    error = math.sqrt(count / (count - 1) * float(np.square(sums).sum())) / data.size
    t = student_quantile(confidence, count - 1)
    return _symmetric(value, error, t, int(data.size), f"clustered mean ({count} clusters)")


def ratio(numerators: Sequence[float], denominators: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """sum(x) / sum(w) with the linearised standard error sqrt(n / (n - 1) * sum((x - r w)^2)) / sum(w)."""
    x, w = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    value = float(x.sum() / w.sum())
    if x.size < 2:
        return Interval(value, None, None, None, int(x.size), "ratio")
    error = math.sqrt(x.size / (x.size - 1) * float(np.square(x - value * w).sum())) / float(w.sum())
    return _symmetric(value, error, student_quantile(confidence, x.size - 1), int(x.size), "linearised ratio")


def _symmetric(value: float, error: float, quantile: float, n: int, method: str) -> Interval:
    """Value +- quantile * error; equal samples say nothing about how others would vary."""
    if error <= ROUNDING * abs(value):
        return Interval(value, None, None, None, n, CONSTANT)
    return Interval(value, error, value - quantile * error, value + quantile * error, n, method)


def transformed(interval: Interval, function: Callable[[float], float], slope: float) -> Interval:
    """The interval of a monotone function of the value; the standard error by the delta method with `slope`."""
    error = None if interval.standard_error is None else abs(slope) * interval.standard_error
    ends = [] if interval.low is None or interval.high is None else sorted(map(function, (interval.low, interval.high)))
    low, high = (_bound(ends[0]), _bound(ends[1])) if ends else (None, None)
    method = f"{interval.method}, transformed" if ends else interval.method
    return Interval(function(interval.value), _bound(error), low, high, interval.n, method)


def _bound(value: float | None) -> float | None:
    """None for what is beyond the numbers: unbounded."""
    return value if value is not None and math.isfinite(value) else None


def pearson(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Pearson correlation with Fisher's z interval: SE(atanh r) = 1 / sqrt(n - 3)."""
    value = _correlation(first, second)
    return _fisher(value, len(first), 1.0, confidence, "Fisher z")


def spearman(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Spearman rank correlation; Fisher's z with SE = sqrt((1 + r^2 / 2) / (n - 3)) (Bonett & Wright 2000)."""
    value = _correlation(_ranks(first), _ranks(second))
    return _fisher(value, len(first), math.sqrt(1 + value * value / 2), confidence, "Fisher z (Bonett-Wright)")


def _fisher(value: float, n: int, factor: float, confidence: float, method: str) -> Interval:
    if n < 4 or not math.isfinite(value) or abs(value) >= 1:
        return Interval(value, None, None, None, n, method)
    error = factor / math.sqrt(n - 3)
    half = normal_quantile(confidence) * error
    low, high = math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)
    return Interval(value, (1 - value * value) * error, low, high, n, method)


def _correlation(first: Sequence[float] | Values, second: Sequence[float] | Values) -> float:
    """Pearson's r; NaN when one side is constant."""
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def _ranks(values: Sequence[float]) -> Values:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Values = ((last - counts + 1 + last) / 2)[inverse]
    return ranks
