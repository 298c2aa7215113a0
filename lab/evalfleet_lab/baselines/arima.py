"""ARIMA, as `ARIMAPredictor` of the planner of NVIDIA Dynamo, which calls pmdarima's `auto_arima`.

The planner chooses the order once by AIC, on the load itself or, where that gives no more than (0, d, 0), on
log(1 + load), and updates with every load. Here the order is chosen anew every day from the last seven days, which is
kinder:

- d by the KPSS test of level stationarity at 5 % (Kwiatkowski et al. 1992), as auto_arima does;
- p, q up to 3 by AIC of the regression of Hannan and Rissanen (1982) on the residuals of a long autoregression;
- then least squares of the conditional residuals, coefficients kept stationary and invertible (Monahan 1984).

Forecast: one step of  w = (1 - B)^d y,  w - m = sum phi (w - m) + e + sum theta e.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import lfilter

from evalfleet_lab.baselines.rule import Rule, by_minute, phases
from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray, Series
from evalfleet_scaling.forecast.streams import hold

LARGEST_ORDER = 3
FIT_DAYS = 7
LEAST_STEPS = 40
WARM_UP = 100
KPSS_5_PERCENT = 0.463
EVALUATIONS = 40


@dataclass(frozen=True, slots=True)
class Arima:
    """A fitted model: d, mean of the differenced load, AR and MA coefficients."""

    d: int
    mean: float
    ar: FloatArray
    ma: FloatArray

    def next_loads(self, loads: FloatArray) -> FloatArray:
        """One-step forecasts after each load, every column on its own; shape of `loads`.

        Differences and residuals before the first are taken as zero.
        """
        moved = np.diff(loads, axis=0, prepend=loads[:1]) if self.d else loads
        centred = moved - self.mean
        residual = lfilter(np.concatenate([[1.0], -self.ar]), np.concatenate([[1.0], self.ma]), centred, axis=0)
        ahead = lfilter(self.ar, [1.0], centred, axis=0) if len(self.ar) else np.zeros_like(centred)
        if len(self.ma):
            ahead = ahead + lfilter(self.ma, [1.0], residual, axis=0)
        return np.asarray(self.mean + ahead + (loads if self.d else 0.0), dtype=np.float64)


def points(series: Series, horizon: int) -> FloatArray:
    """As the planner does, then always on the load, always on the logarithm; shape (minutes, 3)."""
    loads = phases(series, horizon)
    out = np.full((*loads.shape, 3), np.nan)
    day = max(1, round(MINUTES_PER_DAY / horizon))
    filled = hold(loads, np.zeros(loads.shape[1]))
    for start in range(day, len(loads), day):
        stop, first = min(start + day, len(loads)), max(0, start - WARM_UP)
        plain, logs = (_daily(part, start, day) for part in (filled, np.log1p(filled)))
        on_load = plain.next_loads(filled[first:stop])[start - first :]
        on_logs = np.expm1(np.minimum(logs.next_loads(np.log1p(filled[first:stop]))[start - first :], 25.0))
        collapsed = len(plain.ar) + len(plain.ma) == 0
        out[start:stop] = np.stack([on_logs if collapsed else on_load, on_load, on_logs], axis=2)
    return by_minute(out, len(series), horizon)


def _daily(loads: FloatArray, start: int, day: int) -> Arima:
    # The last row of a column may be later than the first column's next one: the fit sees whole rows before `start`.
    return fit(loads[max(0, start - FIT_DAYS * day) : start - 1, 0])


def fit(loads: FloatArray) -> Arima:
    """Order and coefficients for one series of loads; a constant where there is too little to tell."""
    if len(loads) < LEAST_STEPS or np.ptp(loads) == 0:
        return Arima(0, float(loads.mean()) if len(loads) else 0.0, np.zeros(0), np.zeros(0))
    d = int(kpss(loads) > KPSS_5_PERCENT)
    moved = np.diff(loads) if d else loads
    mean = 0.0 if d else float(moved.mean())
    centred = moved - mean
    p, q = min(_orders(centred), default=(0.0, 0, 0))[1:]
    return refine(centred, Arima(d, mean, np.zeros(p), np.zeros(q)))


def _orders(centred: FloatArray) -> Iterator[tuple[float, int, int]]:
    """AIC of every order by the second step of Hannan and Rissanen."""
    count = len(centred)
    long = min(max(2 * LARGEST_ORDER, round(10 * np.log10(count))), count // 3)
    residual = np.zeros(count)
    lags = _lagged(centred, long)
    residual[long:] = centred[long:] - lags[long:] @ np.linalg.lstsq(lags[long:], centred[long:], rcond=None)[0]
    own, errors = _lagged(centred, LARGEST_ORDER), _lagged(residual, LARGEST_ORDER)
    used = slice(long + LARGEST_ORDER, None)
    for p in range(LARGEST_ORDER + 1):
        for q in range(LARGEST_ORDER + 1):
            table = np.concatenate([own[used, :p], errors[used, :q]], axis=1)
            target = centred[used]
            left = target - table @ np.linalg.lstsq(table, target, rcond=None)[0] if p + q else target
            yield len(target) * float(np.log(max(float((left**2).mean()), 1e-12))) + 2 * (p + q + 1), p, q


def _lagged(values: FloatArray, count: int) -> FloatArray:
    """Columns of the values 1 to `count` steps ago, zero before the first."""
    return np.stack([np.concatenate([np.zeros(lag), values[:-lag]]) for lag in range(1, count + 1)], axis=1)


def refine(centred: FloatArray, start: Arima) -> Arima:
    """Least squares of the conditional residuals over stationary and invertible coefficients of the given order."""
    p, q = len(start.ar), len(start.ma)
    if p + q == 0:
        return start
    scale = float(centred.std()) or 1.0

    def residual(parameters: FloatArray) -> FloatArray:
        ar, ma = stable(parameters[:p]), -stable(parameters[p:])
        out = lfilter(np.concatenate([[1.0], -ar]), np.concatenate([[1.0], ma]), centred / scale)
        return np.asarray(out, dtype=np.float64)

    found = least_squares(residual, np.full(p + q, 0.1), max_nfev=EVALUATIONS)
    return Arima(start.d, start.mean, stable(found.x[:p]), -stable(found.x[p:]))


def stable(free: FloatArray) -> FloatArray:
    """Autoregressive coefficients inside the region of stationarity, from unbounded numbers (Monahan 1984)."""
    out = np.zeros(0)
    for partial in 0.999 * np.tanh(free):
        out = np.concatenate([out - partial * out[::-1], [partial]])
    return out


def kpss(values: FloatArray) -> float:
    """Statistic of level stationarity with the Bartlett long-run variance over 12 (n/100)^(1/4) lags."""
    centred = values - values.mean()
    count = len(values)
    lags = min(count - 1, int(np.ceil(12 * (count / 100) ** 0.25)))
    variance = float(centred @ centred)
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * float(centred[lag:] @ centred[:-lag])
    partial = np.cumsum(centred)
    return float(partial @ partial) / max(count * variance, 1e-12)


ARIMA = Rule("dynamo-arima", points)
