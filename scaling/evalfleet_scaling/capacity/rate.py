"""Lower confidence bound of a worker's rate: what the guarantee plans with until enough has been measured."""

import numpy as np

from evalfleet_scaling.capacity.view import FloatArray
from evalfleet_scaling.errors import ScalingInputError


def rate_lower_bound(
    planned_rate: float,
    measured_seconds: FloatArray,
    measured_work: FloatArray,
    *,
    prior_seconds: float = 600.0,
    prior_uncertainty: float = 0.25,
) -> FloatArray:
    """Rate that is probably exceeded, from a prior worth `prior_seconds` of measurement and what was measured since.

    The mean is the prior's plan and the measurement, weighted by seconds; the discount `prior_uncertainty` shrinks with
    the square root of the prior's remaining weight: 25 % before the first batch, 3 % after 100 times the prior.

    Args:
        planned_rate: work per second expected before anything ran.
        measured_seconds: [J] worker-seconds of work observed.
        measured_work: [J] work done in them.
        prior_seconds: worker-seconds of measurement that the plan counts for.
        prior_uncertainty: relative discount before anything was measured.
    """
    if not np.isfinite(planned_rate) or planned_rate <= 0:
        raise ScalingInputError(f"planned_rate {planned_rate} is not a positive number")
    if not np.isfinite(measured_seconds).all() or not np.isfinite(measured_work).all():
        raise ScalingInputError("a measured rate is not a number")
    seconds, work = np.maximum(measured_seconds, 0.0), np.maximum(measured_work, 0.0)
    weight = prior_seconds / (prior_seconds + seconds)
    mean = (prior_seconds * planned_rate + work) / (prior_seconds + seconds)
    result: FloatArray = mean * (1.0 - prior_uncertainty * np.sqrt(weight))
    return result
