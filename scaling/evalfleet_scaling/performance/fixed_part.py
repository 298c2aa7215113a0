"""What every run of a place costs whatever its size: the first unit, an allocator, a runtime.

Without it a ratio learnt from large runs fails for small ones. measured = ratio x (arithmetic + fixed): `fixed` is the
candidate that makes the runs of each key agree best with each other and the keys with what they share.
"""

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray
from evalfleet_scaling.performance.effects import Deviations, Names, Sharing, condition
from evalfleet_scaling.performance.levels import PRIOR_RUNS, robust_levels
from evalfleet_scaling.performance.measurements import Measurements, Usual

SURPRISE = 1.0
"""Log-probability that each further candidate costs: nothing fixed unless the runs say so."""


def fixed_parts(measured: Measurements, names: Names, shared: Sharing, prior: Usual) -> FloatArray:
    """The fixed part of each place, shape (places,)."""
    places = int(names.place.max()) + 1
    return np.array([_best(measured, names.place == place, shared, prior) for place in range(places)])


def _best(measured: Measurements, here: BoolArray, shared: Sharing, prior: Usual) -> float:
    rows = np.flatnonzero(here)
    own = Measurements(measured.measured[rows], measured.arithmetic[rows], measured.finished_seconds[rows])
    among = Sharing(shared.parts[:, rows][:, :, rows])
    possible = [fixed for fixed in prior.fixed if fixed > -0.9 * np.nanmin(own.arithmetic)]
    scores = [_log_probability(own, among, prior.spread, fixed) - SURPRISE * (fixed != 0.0) for fixed in possible]
    return possible[int(np.argmax(scores))]


def _log_probability(own: Measurements, among: Sharing, usual_spread: float, fixed: float) -> float:
    """Of runs within keys (the pooled spread integrated out) and of levels between keys."""
    count = len(own.measured)
    ratios = own.ratios(np.full(count, fixed))
    levels = robust_levels(ratios, np.zeros(count, dtype=np.int64), usual_spread)
    degrees = PRIOR_RUNS + float((levels.runs - 1).sum())
    within = -0.5 * degrees * np.log(degrees * levels.pooled[0] ** 2)
    between = condition(among, Deviations(), levels.level, levels.spread**2 / levels.weight, np.zeros(count))
    return float(within + between.log_evidence)
