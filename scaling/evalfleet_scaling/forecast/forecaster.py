"""The forecaster: members, calibration, drift and mix behind one `learn_one` and `forecast`.

One code path serves the operator (a minute at a time) and a replay (hours at a time): every part takes any number of
new minutes and keeps its memory. Work is cut at every sixth hour, where models may be retrained, so that both see the
same models at the same minute.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from evalfleet_scaling.errors import ScalingInputError
from evalfleet_scaling.forecast.boosting import HISTORY_MINUTES, TRAINING_MINUTES, Boosted, TrainingSet, Trees, train
from evalfleet_scaling.forecast.calibrate import Calibration, score_unit
from evalfleet_scaling.forecast.drift import Drift
from evalfleet_scaling.forecast.gamma import EwmaGamma, GammaPrior
from evalfleet_scaling.forecast.interface import LARGEST_DEMAND, MINUTES_PER_DAY, FloatArray, Series, trailing_sum
from evalfleet_scaling.forecast.memory import DayPercentile, LastWindow, SameHour, WeekPercentile
from evalfleet_scaling.forecast.mix import Mix
from evalfleet_scaling.forecast.models import Model, Raw, Scene, Setup
from evalfleet_scaling.forecast.recalibrate import Recalibration
from evalfleet_scaling.forecast.smoothing import HoltWinters, SesGrid
from evalfleet_scaling.forecast.streams import DiscountedMean, decay_of_half_life
from evalfleet_scaling.forecast.window import Window, trailing_max_new, trailing_mean_new, trailing_sum_new

Trainer = Callable[[TrainingSet], Boosted | None]

CUT_MINUTES = 360
PRIOR_MINUTES = 20
HEADROOM = 1.25
CAP_MINUTES = 7 * MINUTES_PER_DAY
EXACT = 1024.0
STRICT_AFTER_MINUTES = 360
"""Before six hours the cap leaves room for one typical job, since nothing may have arrived yet."""

MEMBERS = (
    "ewma-gamma",
    "ses",
    "last-window",
    "holt-winters",
    "same-hour",
    "day-percentile",
    "week-percentile",
    "hgb-residual",
    "hgb-direct",
)
STAGES = dict(zip(MEMBERS, (1, 1, 2, 2, 2, 1, 2, 3, 3), strict=True))
REFERENCE = "ses"
EMPIRICAL = ("day-percentile", "week-percentile")
"""Members that are not calibrated; the first has a say in whether the mix is zero."""
TREE_MEMBERS = ("hgb-residual", "hgb-direct")
SIMPLE: dict[str, Callable[[Setup], Model]] = {
    "ewma-gamma": EwmaGamma,
    "ses": SesGrid,
    "last-window": LastWindow,
    "holt-winters": HoltWinters,
    "same-hour": SameHour,
    "day-percentile": DayPercentile,
    "week-percentile": WeekPercentile,
}


class UnknownHorizonError(ScalingInputError):
    """A forecast was asked for a horizon the forecaster does not follow."""


class UnknownMemberError(ScalingInputError):
    """A forecaster was asked for a member that does not exist."""


@dataclass(frozen=True, slots=True)
class Advance:
    """What one step over some minutes says, for reports; the last row is what `forecast` answers with.

    Attributes:
        mixed: shape (new, horizons, quantiles).
        members: calibrated forecasts, shape (new, members, horizons, quantiles).
        weights: shape of `members`.
        alarmed: shape (new,), minutes within a day after a drift alarm.
    """

    mixed: FloatArray
    members: FloatArray
    weights: FloatArray
    alarmed: np.ndarray


class Forecaster:
    """Calibrated ensemble of members for one series; itself a `Member` and a `BatchMember`.

    With one member it is that member, calibrated, on its own.
    """

    def __init__(
        self,
        setup: Setup,
        start_minute: int = 0,
        trainer: Trainer | None = train,
        members: tuple[str, ...] = MEMBERS,
    ) -> None:
        unknown = set(members) - set(MEMBERS)
        if unknown or not members:
            raise UnknownMemberError(f"members {sorted(unknown)} do not exist; there are {list(MEMBERS)}")
        self.setup = replace(setup, horizons=tuple(sorted(setup.horizons)), quantiles=tuple(sorted(setup.quantiles)))
        self.members = tuple(name for name in MEMBERS if name in members)
        self.trainer = trainer if set(members) & set(TREE_MEMBERS) else None
        self.start_minute = start_minute
        self.history: FloatArray = np.zeros(0)
        self.seen = 0
        self.pending: list[float] = []
        self.retrain_at = MINUTES_PER_DAY
        self.alarms_served = 0
        self.latest = np.full((len(self.setup.horizons), len(self.setup.quantiles)), np.nan)
        self.prior = GammaPrior(self.setup)
        self.simple: list[Model] = [SIMPLE[name](self.setup) for name in self.members if name in SIMPLE]
        self.trees = Trees(self.setup)
        self.calibration = Calibration(self.setup, len(self.members))
        self.mix = Mix(self.setup, self._stages(), self._place(REFERENCE) or 0, self._place(EMPIRICAL[0]))
        self.recalibration = Recalibration(self.setup)
        self.drift = Drift()
        self.job_size = DiscountedMean(np.array([decay_of_half_life(MINUTES_PER_DAY)]))

    @property
    def name(self) -> str:
        """The only member, or ensemble."""
        return self.members[0] if len(self.members) == 1 else "ensemble"

    def _stages(self) -> tuple[int, ...]:
        return tuple(1 if len(self.members) == 1 else STAGES[name] for name in self.members)

    def _place(self, name: str) -> int | None:
        return self.members.index(name) if name in self.members else None

    def learn_one(self, value: float) -> None:
        """Take the demand of the next minute; NaN is a gap, and so is a negative, infinite or absurd number."""
        self.pending.append(value)
        if len(self.pending) >= CUT_MINUTES:
            self.catch_up()

    def forecast(self, horizon_minutes: int, quantiles: Sequence[float]) -> FloatArray:
        """Quantiles of the demand of the next `horizon_minutes`, shape (quantiles,).

        Levels between those that are followed are interpolated; outside of them the nearest is given.

        Raises:
            UnknownHorizonError: the horizon is not one of `setup.horizons`.
        """
        self.catch_up()
        if horizon_minutes not in self.setup.horizons:
            raise UnknownHorizonError(
                f"horizon {horizon_minutes} min is not followed; followed are {list(self.setup.horizons)}"
            )
        row = self.latest[self.setup.horizons.index(horizon_minutes)]
        return np.asarray(np.interp(quantiles, self.setup.quantiles, row), dtype=np.float64)

    def replay(self, series: Series, horizons: Sequence[int], quantiles: Sequence[float]) -> FloatArray:
        """Mixed forecasts of a fresh forecaster with this trainer, shape (minutes, horizons, quantiles)."""
        setup = replace(self.setup, horizons=tuple(horizons), quantiles=tuple(quantiles))
        fresh = Forecaster(setup, series.start_minute, self.trainer, self.members)
        mixed = np.concatenate([part.mixed for part in fresh.advance(series.values)])
        order = [fresh.setup.horizons.index(horizon) for horizon in horizons]
        return mixed[:, order][:, :, [fresh.setup.quantiles.index(level) for level in quantiles]]

    def advance(self, values: FloatArray) -> list[Advance]:
        """Take many minutes; one result for each stretch between two cuts."""
        out = []
        start = 0
        while start < len(values):
            stop = min(len(values), start + CUT_MINUTES - self.seen % CUT_MINUTES)
            out.append(self._step(values[start:stop]))
            start = stop
        return out

    def training_set(self) -> TrainingSet:
        """What a trainer needs now."""
        first = max(0, len(self.history) - TRAINING_MINUTES)
        window = Window(self.history, first, self.start_minute + self.seen - len(self.history))
        return TrainingSet(self.setup, window, self._typical())

    @property
    def training_due(self) -> bool:
        """Whether a day has passed since the last training, or an alarm was raised."""
        return self.seen >= self.retrain_at or (self.seen >= MINUTES_PER_DAY and self._unserved_alarm())

    def install(self, boosted: Boosted | None) -> None:
        """Use newly trained trees; None (training failed or took too long) keeps the old ones until tomorrow."""
        if boosted is not None:
            self.trees.boosted = boosted
        self.retrain_at = self.seen + MINUTES_PER_DAY
        self.alarms_served = int(self.drift.alarms[0])

    def _unserved_alarm(self) -> bool:
        return int(self.drift.alarms[0]) > self.alarms_served

    def _typical(self) -> float:
        last = float(self.job_size.last[0])
        return float(np.exp(last)) if last == last else self.setup.typical_job

    def catch_up(self) -> None:
        """Process the minutes that were learnt since the last forecast."""
        if self.pending:
            values, self.pending = np.asarray(self.pending, dtype=np.float64), []
            self.advance(values)

    def _step(self, values: FloatArray) -> Advance:
        # float32 keeps the state small; multiples of 1/1024 make every sum exact, so that no result depends on where a
        # running sum began (up to 8e12 GPU-seconds in 22 days).
        values = np.where((values >= 0) & (values <= LARGEST_DEMAND), values, np.nan)
        values = (np.round(values * EXACT) / EXACT).astype(np.float32).astype(np.float64)
        window = self._extend(values)
        scene = self._scene(window)
        alarmed = self.drift.advance(window)
        raws = [model.advance(scene) for model in self.simple] + self._tree_raws(scene)
        cap = self._cap(window)
        members = self._calibrate(raws, scene, cap)
        mixed, weights = self.mix.advance(members, scene.arrived, alarmed)
        mixed = np.minimum(self.recalibration.advance(mixed, scene), cap)
        mixed = self._with_prior(mixed, scene, cap)
        self.latest = mixed[-1]
        if self.trainer is not None and self.seen % CUT_MINUTES == 0 and self.training_due:
            self.install(self.trainer(self.training_set()))
        return Advance(mixed, members, weights, alarmed)

    def _tree_raws(self, scene: Scene) -> list[Raw]:
        wanted = [name in self.members for name in TREE_MEMBERS]
        return list(compress(self.trees.advance(scene), wanted)) if any(wanted) else []

    def _extend(self, values: FloatArray) -> Window:
        past = self.history[-HISTORY_MINUTES:]
        self.history = np.concatenate([past, values])
        self.seen += len(values)
        return Window(self.history, len(past), self.start_minute + self.seen - len(self.history))

    def _scene(self, window: Window) -> Scene:
        arrived = np.stack([trailing_sum_new(window, horizon) for horizon in self.setup.horizons], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            sizes = np.where(window.new > 0, np.log(window.new), np.nan)
        typical = np.exp(self.job_size.advance(sizes[:, None])[:, 0])
        typical = np.where(np.isnan(typical), self.setup.typical_job, typical)
        day = np.nan_to_num(trailing_mean_new(window, MINUTES_PER_DAY))
        floor = np.maximum(day[:, None] * np.asarray(self.setup.horizons), typical[:, None])
        return Scene(window, arrived, floor, typical)

    def _cap(self, window: Window) -> FloatArray:
        """1.25 x the largest window seen in 7 d, shape (new, horizons, 1)."""
        part = window.tail(CAP_MINUTES + max(self.setup.horizons))
        columns = [
            trailing_max_new(trailing_sum(part.values, horizon), part.first, CAP_MINUTES)
            for horizon in self.setup.horizons
        ]
        largest = np.stack(columns, axis=1)
        age = self.seen - len(window.new) + np.arange(1, len(window.new) + 1)
        early = np.where(age < STRICT_AFTER_MINUTES, self.setup.typical_job, 0.0)
        return np.asarray(HEADROOM * np.maximum(largest, early[:, None])[:, :, None], dtype=np.float64)

    def _calibrate(self, raws: list[Raw], scene: Scene, cap: FloatArray) -> FloatArray:
        raw = np.stack([one.quantiles for one in raws], axis=1)
        unit = np.stack([score_unit(one.center, scene.floor) for one in raws], axis=1)
        calibrated = self.calibration.advance(raw, unit, scene.arrived)
        if "ewma-gamma" in self.members:
            # A gamma is a distribution of its own: it speaks before anything could be calibrated. It comes first.
            calibrated[:, 0] = np.where(np.isnan(calibrated[:, 0]), raw[:, 0], calibrated[:, 0])
        for index in (self.members.index(name) for name in EMPIRICAL if name in self.members):
            calibrated[:, index] = raw[:, index]
        return np.clip(calibrated, 0.0, cap[:, None])

    def _with_prior(self, mixed: FloatArray, scene: Scene, cap: FloatArray) -> FloatArray:
        age = self.seen - len(scene.window.new) + np.arange(1, len(mixed) + 1)
        prior = self.prior.advance(scene).quantiles
        unknown = (age < PRIOR_MINUTES)[:, None, None] | np.isnan(mixed)
        late = (age >= STRICT_AFTER_MINUTES)[:, None, None]
        return np.where(unknown, np.where(late, np.minimum(prior, cap), prior), mixed)
