"""What one fleet decision passes on to the next; losing it (a restart of the operator) is safe, only less smooth."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Refusal:
    """A deadline that was refused, so that it is not examined again every second."""

    deadline_seconds: float
    work_gpu_seconds: float
    earliest_feasible_deadline_seconds: float | None
    short_of_money: bool
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class FleetMemory:
    """Since when jobs have had too many or too few workers, removals, refusals, most spot; times as in snapshots."""

    critical: frozenset[str] = frozenset()
    surplus_since: Mapping[str, float] = field(default_factory=dict)
    shortage_since: Mapping[str, float] = field(default_factory=dict)
    removals_seconds: tuple[float, ...] = ()  # voluntary ones of the last minute
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    most_spot: Mapping[str, int] = field(default_factory=dict)  # most spot workers a job could have had at one moment
