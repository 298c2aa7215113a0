"""How long an engine may be silent before it counts as hung. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "EVALFLEET_WATCHDOG"


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """Limits of silence [s]; EVALFLEET_WATCHDOG (JSON) changes single ones.

    Attributes:
        least_seconds: no unit is given up before this.
        factor: nor before so many times what is predicted, or what this worker's slowest unit took.
        first_seconds: for the first unit of an engine process, which may compile kernels.
        load_seconds: for loading the model, its download included.
    """

    least_seconds: float = 120.0
    factor: float = 10.0
    first_seconds: float = 900.0
    load_seconds: float = 7_200.0

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "WatchdogSettings":
        """As the environment says."""
        return cls(**json.loads(environment.get(VARIABLE, "{}")))


@dataclass
class Watchdog:
    """The limit for the next unit, from what this worker has measured; units are cut to about equal work.

    Attributes:
        settings: limits.
        longest: seconds of the slowest unit so far.
    """

    settings: WatchdogSettings = WatchdogSettings()
    longest: float = 0.0
    _is_first: bool = True

    def loading(self) -> float:
        """Limit for loading the model; the unit after it is the first of its process."""
        self._is_first = True
        return self.settings.load_seconds

    def scoring(self, predicted_seconds: float) -> float:
        """Limit for a unit."""
        expected = max(predicted_seconds, self.longest)
        limit = max(self.settings.least_seconds, self.settings.factor * expected)
        return max(limit, self.settings.first_seconds) if self._is_first else limit

    def measured(self, seconds: float) -> None:
        """A unit was answered after so many seconds."""
        self._is_first = False
        self.longest = max(self.longest, seconds)
