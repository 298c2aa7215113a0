"""Typed errors for bad input: what is wrong, with the value, in one sentence a person can act on."""


class ScalingInputError(ValueError):
    """An input of the core is not usable; the message names the field and the value."""


class InvalidJobError(ScalingInputError):
    """A job has a negative, infinite or contradictory quantity."""


class InvalidPoolError(ScalingInputError):
    """A pool has no price, no width, or a quantity that is not a number."""


class InvalidWorkerError(ScalingInputError):
    """A worker refers to an unknown job or pool, or shares its slot with another."""


class InvalidObservationError(ScalingInputError):
    """An observation of a pool is not a number, negative, or about an unknown pool."""


class InvalidLimitsError(ScalingInputError):
    """A limit is negative or not a number."""


class EmptyPoolsError(ScalingInputError):
    """No pool is given, so that no worker can be placed anywhere."""


class ClockWentBackwardsError(ScalingInputError):
    """`now` lies before a time that was already decided at."""
