"""TimeSliced: cut the time to the deadline into n equal slices and be greedy within each (a baseline of NSDI'24)."""

from dataclasses import dataclass, replace

import numpy as np

from evalfleet_scaling.capacity.greedy import Greedy
from evalfleet_scaling.capacity.view import CapacityPlan, CapacityView
from evalfleet_scaling.model import StrategyName


@dataclass(frozen=True, slots=True)
class TimeSliced:
    """Every slice must do its share of the work, so that progress never waits for the end."""

    slices: int = 4

    @property
    def name(self) -> StrategyName:
        """TimeSliced."""
        return StrategyName.TIME_SLICED

    def decide(self, view: CapacityView) -> CapacityPlan:
        """Greedy against the end of the present slice."""
        span = np.maximum(view.elapsed_seconds + view.left_seconds, 1.0)
        piece = span / self.slices
        number = np.minimum(np.floor(view.elapsed_seconds / piece) + 1, self.slices)
        due = np.maximum(view.work_left - view.work_total * (1 - number / self.slices), 0.0)
        left = np.maximum(number * piece - view.elapsed_seconds, 0.0)
        return Greedy().decide(replace(view, left_seconds=left, work_left=due))
