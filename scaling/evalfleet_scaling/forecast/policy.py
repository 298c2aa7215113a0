"""What a worker-count policy is, ours or another system's: what it may see each minute, and what is tuned for it.

Conventions, the same for every policy:

- Time is in minutes. The observation of minute `t` is made at its end; the answer holds from minute `t + 1` on.
- A worker serves 60 GPU-seconds a minute. Ordered at the end of minute `t`, it is paid from minute `t + 1` on and
  serves from minute `t + 1 + lead_minutes` on. The newest are given up first, those still starting before any other.
- Many replays run side by side as *scenarios*: every array has one entry per scenario. A scenario is one series with
  one lead time and one tuning. A policy never mixes scenarios.
- The answer is a number of workers (running and starting together); the replay rounds it up to whole workers. After
  that, every policy alike keeps a worker for `keep_minutes` after it was last wanted (0: gives up at once).
- A factory may read the values of `scenarios.series` to prepare forecasts of many minutes at once, but what it says at
  minute `t` must follow from `values[: t + 1]` alone; NaN there is a minute nobody observed. `tune.foresight` finds
  policies that look ahead.

How to add a policy: write a class with `wanted`, a `PolicyFactory` (usually the class itself), and a `Candidate` with
as many safety levels as all others have. `tune.tune` replays it over the whole grid, chooses on the training part and
judges on the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.interface import FloatArray, Series

IndexArray = NDArray[np.int64]

WORKER_SECONDS = 60.0
"""GPU-seconds one worker serves in a minute."""

FACTORS: tuple[float, ...] = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
"""Safety of a policy that scales on a point estimate: what the estimate is multiplied by."""
LEVELS: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Safety of a policy that scales on quantiles: the level."""
WIDE_LEVELS: tuple[float, ...] = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.3, 1.7)
"""The same, beyond what a forecast can tell: above 1, that multiple of the distance from the median to its highest
level. Where few jobs arrive, 1 % of late work needs more than the 0.99 quantile (decision 0093)."""
SAFETIES = len(FACTORS)
DRAIN_MINUTES: tuple[float, ...] = (2.5, 5.0, 10.0, 20.0, 40.0)
"""In how many minutes a backlog shall be worked off."""
KEEP_SHARES: tuple[float, ...] = (0.0, 1.0)
"""How long an idle worker is kept, as a share of its paid start-up; 1 is the ski-rental bound (Karlin et al. 1988)."""


class InvalidPolicyError(ScalingInputError):
    """A candidate or its scenarios are not usable; the message names what."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is tuned, one entry per scenario.

    Attributes:
        safety: meaning is the policy's own (a factor, a level, a target utilisation); more is safer and dearer.
        drain_minutes: in how many minutes a backlog shall be worked off; less is safer and dearer.
        keep_minutes: minutes a worker is kept after it was last wanted; applied by the replay, not by the policy.
    """

    safety: FloatArray
    drain_minutes: FloatArray
    keep_minutes: IndexArray


@dataclass(frozen=True, slots=True)
class Scenarios:
    """What is fixed during a replay.

    Attributes:
        series: the distinct series, all of one length.
        source: shape (scenarios,), which series a scenario replays.
        lead_minutes: shape (scenarios,), whole minutes from order to service, at least 1.
        tolerated_minutes: work that waits longer is late (tau).
        tuning: one entry per scenario.
    """

    series: tuple[Series, ...]
    source: IndexArray
    lead_minutes: IndexArray
    tolerated_minutes: int
    tuning: Tuning

    def __len__(self) -> int:
        return len(self.source)

    def per_scenario(self, by_series: FloatArray) -> FloatArray:
        """Shape (series, ...) to (scenarios, ...)."""
        return np.asarray(by_series[self.source])


@dataclass(frozen=True, slots=True)
class Observation:
    """What a policy sees at the end of a minute; arrays of shape (scenarios,).

    Attributes:
        minute: index of the minute that just ended.
        arrived: GPU-seconds that arrived in it; NaN: nobody looked.
        backlog: GPU-seconds arrived and not yet served.
        running: workers that serve.
        starting: workers ordered, paid and not yet serving.
        pending_credit: GPU-seconds the starting workers will be able to serve within the next `lead_minutes`.
    """

    minute: int
    arrived: FloatArray
    backlog: FloatArray
    running: FloatArray
    starting: FloatArray
    pending_credit: FloatArray


class WorkerPolicy(Protocol):
    """Decides a worker count every minute; may keep memory per scenario."""

    def wanted(self, observed: Observation) -> FloatArray:
        """Workers wanted from the next minute on (running and starting together), shape (scenarios,), not negative."""
        ...


PolicyFactory = Callable[[Scenarios], WorkerPolicy]
"""Builds a policy with fresh memory for all scenarios of a replay."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy and the grid it is tuned on: all have as many safety levels, so that all are tuned equally hard.

    Attributes:
        name: name in reports.
        factory: builds it.
        safeties: `SAFETIES` values, ascending from cheap to safe.
        drains: second parameter, `len(DRAIN_MINUTES)` values; minutes to work off a backlog unless the policy has no
            such thing and gives it another meaning.
    """

    name: str
    factory: PolicyFactory
    safeties: tuple[float, ...] = FACTORS
    drains: tuple[float, ...] = DRAIN_MINUTES

    def __post_init__(self) -> None:
        if (len(self.safeties), len(self.drains)) != (SAFETIES, len(DRAIN_MINUTES)):
            raise InvalidPolicyError(
                f"policy {self.name!r}: a grid of {len(self.safeties)} x {len(self.drains)}; "
                f"every policy is tuned over {SAFETIES} safety levels x {len(DRAIN_MINUTES)} drain targets"
            )


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the grid."""

    safety: float
    drain_minutes: float
    keep_share: float


def settings_of(candidate: Candidate) -> tuple[Setting, ...]:
    """The whole grid of a candidate."""
    return tuple(
        Setting(safety, drain, keep)
        for safety in candidate.safeties
        for drain in candidate.drains
        for keep in KEEP_SHARES
    )


def scenarios_of(
    series: Sequence[Series], leads: Sequence[int], tolerated_minutes: int, settings: Sequence[Setting]
) -> Scenarios:
    """Every series with every lead time and every setting; scenario = (series, lead, setting), the last fastest.

    Raises:
        InvalidPolicyError: no scenario, series of unequal length, or a time that is not positive.
    """
    if not series or not leads or not settings:
        raise InvalidPolicyError("a replay needs at least one series, one lead time and one setting")
    if len({len(one) for one in series}) != 1:
        raise InvalidPolicyError(f"series of one replay must have one length, got {[len(one) for one in series]}")
    if min(leads) < 1 or tolerated_minutes < 0:
        raise InvalidPolicyError(f"lead times {list(leads)} must be at least 1 min, tolerated wait not negative")
    source, lead, setting = (
        part.ravel()
        for part in np.meshgrid(np.arange(len(series)), np.asarray(leads), np.arange(len(settings)), indexing="ij")
    )
    safety, drain, keep = (
        np.array([getattr(one, name) for one in settings], dtype=np.float64)[setting]
        for name in ("safety", "drain_minutes", "keep_share")
    )
    tuning = Tuning(safety, drain, keep_minutes(keep, lead))
    return Scenarios(tuple(series), source, lead, tolerated_minutes, tuning)


def keep_minutes(share: FloatArray, lead_minutes: IndexArray) -> IndexArray:
    """Whole minutes of a share of the paid start-up."""
    return np.asarray(np.ceil(share * lead_minutes), dtype=np.int64)
