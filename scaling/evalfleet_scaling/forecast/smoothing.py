"""Simple exponential smoothing and Holt-Winters over a grid of constants, the best by recent absolute error."""

from dataclasses import dataclass, field

import numpy as np

from evalfleet_scaling.forecast.interface import MINUTES_PER_DAY, FloatArray
from evalfleet_scaling.forecast.models import Raw, Scene, Setup, point
from evalfleet_scaling.forecast.streams import Delay, DiscountedMean, decay_of_half_life

LEVEL_GRID = (0.05, 0.15, 0.3, 0.6)
SEASON_GRID = (0.0, 0.05, 0.2, 0.4)
SLOT_MINUTES = 15
"""The season has one entry per quarter of an hour: an entry per minute would be noise on sparse arrivals."""
SLOTS = MINUTES_PER_DAY // SLOT_MINUTES


@dataclass
class GridChoice:
    """Follows, for each horizon, the candidate with the least absolute error, discounted with half-life 1 d."""

    horizons: tuple[int, ...]
    candidates: int
    errors: list[DiscountedMean] = field(init=False)
    pending: list[Delay] = field(init=False)

    def __post_init__(self) -> None:
        decay = np.full(self.candidates, decay_of_half_life(MINUTES_PER_DAY))
        self.errors = [DiscountedMean(decay.copy()) for _ in self.horizons]
        self.pending = [Delay(horizon, (self.candidates,)) for horizon in self.horizons]

    def choose(self, forecasts: FloatArray, arrived: FloatArray) -> FloatArray:
        """Best candidate at each minute; forecasts (new, horizons, candidates), arrived (new, horizons)."""
        chosen = np.empty(forecasts.shape[:2])
        for column in range(len(self.horizons)):
            rows = forecasts[:, column]
            matured = self.pending[column].advance(rows)
            loss = self.errors[column].advance(np.abs(arrived[:, column, None] - matured))
            best = np.argmin(np.nan_to_num(loss, nan=np.inf), axis=1)
            chosen[:, column] = rows[np.arange(len(rows)), best]
        return chosen


@dataclass
class SesGrid:
    """Stage 1: level of simple exponential smoothing times H."""

    setup: Setup
    name: str = "ses"
    level: DiscountedMean = field(init=False)
    choice: GridChoice = field(init=False)

    def __post_init__(self) -> None:
        self.level = DiscountedMean(1.0 - np.asarray(LEVEL_GRID))
        self.choice = GridChoice(self.setup.horizons, len(LEVEL_GRID))

    def advance(self, scene: Scene) -> Raw:
        """Smooth, then follow the best constant."""
        values = scene.window.new
        levels = self.level.advance(np.repeat(values[:, None], len(LEVEL_GRID), axis=1))
        horizons = np.asarray(self.setup.horizons, dtype=np.float64)
        return point(self.choice.choose(levels[:, None, :] * horizons[None, :, None], scene.arrived), self.setup)


@dataclass
class HoltWinters:
    """Stage 2: level and additive daily season, every pair of constants of the two grids at once.

    l <- a (y - s) + (1 - a) l;  s <- s + (g / 15) (y - l - s) for the quarter of the hour at hand (Winters 1960, with
    the season's step spread over the minutes of its slot).
    """

    setup: Setup
    name: str = "holt-winters"
    level: FloatArray = field(init=False)
    season: FloatArray = field(init=False)
    started: FloatArray = field(init=False)
    choice: GridChoice = field(init=False)

    def __post_init__(self) -> None:
        self.level = np.zeros(len(LEVEL_GRID) * len(SEASON_GRID))
        self.season = np.zeros((SLOTS, len(self.level)))
        self.started = np.zeros(1)
        self.choice = GridChoice(self.setup.horizons, len(self.level))

    def advance(self, scene: Scene) -> Raw:
        """Recursion over the minutes, all constants at once; the only model that needs a loop."""
        window = scene.window
        forecasts = np.full((len(window.new), len(self.setup.horizons), len(self.level)), np.nan)
        alpha = np.repeat(LEVEL_GRID, len(SEASON_GRID))
        step = np.tile(SEASON_GRID, len(LEVEL_GRID)) / SLOT_MINUTES
        weights = _slot_weights(self.setup.horizons)
        ahead = np.arange(weights.shape[2])
        horizons = np.asarray(self.setup.horizons, dtype=np.float64)[:, None]
        level, season = self.level, self.season
        minutes = window.new_minutes() % MINUTES_PER_DAY
        for row, (value, minute) in enumerate(zip(window.new.tolist(), minutes.tolist(), strict=True)):
            slot = minute // SLOT_MINUTES
            if value == value:  # not NaN
                if not self.started[0]:
                    level, self.started[0] = np.full_like(level, value), 1.0
                here = season[slot]
                level = level + alpha * (value - here - level)
                season[slot] = here + step * (value - level - here)
            coming = season[(slot + ahead) % SLOTS]
            forecasts[row] = horizons * level + weights[minute % SLOT_MINUTES] @ coming
        self.level = level
        if not self.started[0]:
            forecasts[:] = np.nan
        return point(self.choice.choose(np.maximum(forecasts, 0.0), scene.arrived), self.setup)


def _slot_weights(horizons: tuple[int, ...]) -> FloatArray:
    """Minutes of the next H that fall in the present and the following slots, shape (phase, horizons, slots)."""
    slots = (SLOT_MINUTES - 1 + max(horizons)) // SLOT_MINUTES + 1
    out = np.zeros((SLOT_MINUTES, len(horizons), slots))
    for phase in range(SLOT_MINUTES):
        for row, horizon in enumerate(horizons):
            index = (phase + 1 + np.arange(horizon)) // SLOT_MINUTES
            out[phase, row] = np.bincount(index, minlength=slots)[:slots]
    return out
