"""Figures of chosen replays on the judged days: cost with its interval, late work, waits, provisioning."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.forecast.fluid_queue import Path, Totals, waits, weighted_quantile
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.policy import WORKER_SECONDS

RESAMPLES = 1_000
ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Judged:
    """Figures over all judged days of all series, and what they were made of.

    Attributes:
        days: shape (days of all series, 3): work, late work and GPU-seconds paid.
        waited: minutes each portion of work waited.
        portions: GPU-seconds of each.
        minutes: shape (3,): minutes under-provisioned, over-provisioned, all.
    """

    days: FloatArray
    waited: FloatArray
    portions: FloatArray
    minutes: FloatArray

    @staticmethod
    def together(parts: Sequence["Judged"]) -> "Judged":
        """Several series as one."""
        return Judged(
            np.concatenate([one.days for one in parts]),
            np.concatenate([one.waited for one in parts]),
            np.concatenate([one.portions for one in parts]),
            np.sum([one.minutes for one in parts], axis=0),
        )

    @property
    def cost(self) -> float:
        """GPU-seconds paid per GPU-second of work."""
        work, _, paid = self.days.sum(axis=0)
        return float(paid / work) if work > 0 else float("inf")

    @property
    def late_percent(self) -> float:
        """Share of the work that waited longer than tolerated."""
        work, late, _ = self.days.sum(axis=0)
        return float(100.0 * late / work) if work > 0 else 0.0

    @property
    def cost_low(self) -> float:
        """Lower end of the 95 % bootstrap interval of the cost over days."""
        return self._interval()[0]

    @property
    def cost_high(self) -> float:
        """Upper end."""
        return self._interval()[1]

    def _interval(self, seed: int = 0) -> tuple[float, float]:
        picks = np.random.default_rng(seed).integers(0, len(self.days), (RESAMPLES, len(self.days)))
        work, _, paid = np.moveaxis(self.days[picks].sum(axis=1), 1, 0)
        ratios = paid[work > 0] / work[work > 0]
        if not len(ratios):
            return float("inf"), float("inf")
        low, high = np.percentile(ratios, [2.5, 97.5])
        return float(low), float(high)

    @property
    def p99_wait_seconds(self) -> float:
        """Wait that 99 % of the work does not exceed."""
        return 60.0 * weighted_quantile(self.waited, self.portions, 0.99)

    @property
    def under_percent(self) -> float:
        """Share of minutes in which the running workers could not clear the backlog within the tolerance."""
        return float(100.0 * self.minutes[0] / self.minutes[2]) if self.minutes[2] else 0.0

    @property
    def over_percent(self) -> float:
        """Share of minutes in which at least one running worker had nothing to do."""
        return float(100.0 * self.minutes[1] / self.minutes[2]) if self.minutes[2] else 0.0


def judge(totals: Totals, path: Path, scenarios: Sequence[int], split: int, tolerated_minutes: int) -> Judged:
    """Figures of some scenarios from bucket `split` on."""
    columns = list(scenarios)
    days = np.stack([part[split:, columns].ravel() for part in (totals.work, totals.late, totals.paid)], axis=1)
    first = split * totals.bucket_minutes
    minutes = _provisioning(path, columns, first, tolerated_minutes)
    each = [_waits(path.arrived[:, scenario], path.served[:, scenario], first) for scenario in columns]
    waited, portions = (np.concatenate(part) for part in zip(*each, strict=True))
    return Judged(days, waited, portions, minutes)


def _provisioning(path: Path, scenarios: list[int], first: int, tolerated_minutes: int) -> FloatArray:
    """Minutes under-provisioned, over-provisioned, and all of them, shape (3,)."""
    capacity = WORKER_SECONDS * path.running[first:, scenarios]
    served = np.diff(path.served[:, scenarios], axis=0, prepend=0.0)[first:]
    under = path.backlog[first:, scenarios] > capacity * tolerated_minutes + ROUNDING
    over = capacity - served >= WORKER_SECONDS - ROUNDING
    return np.array([under.sum(), over.sum(), under.size], dtype=np.float64)


def _waits(arrived: FloatArray, served: FloatArray, first: int) -> tuple[FloatArray, FloatArray]:
    """Waits of the work that arrived from minute `first` on."""
    before = float(arrived[first - 1]) if first else 0.0
    later = np.maximum(arrived, before) - before
    return waits(later, np.maximum(served, before) - before)
