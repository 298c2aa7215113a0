"""The fleet decision: all jobs of one policy together. `decide_fleet` is what operator and simulator call."""

from evalfleet_scaling.fleet.decide import decide_fleet

__all__ = ["decide_fleet"]
