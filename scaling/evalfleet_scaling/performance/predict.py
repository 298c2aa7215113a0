"""Answers: seconds of scoring, bytes of memory, seconds of start-up, as quantiles with the rung they stand on.

    log quantile = log expected + level + drift
                   +- stretch x sqrt(var level + var drift + spread^2 + (0.05 x log size ratio)^2)

The last term widens what is asked of runs much larger or smaller than those that were seen.
"""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np

from evalfleet_scaling.checks import require_number
from evalfleet_scaling.performance.calibrate import NORMAL
from evalfleet_scaling.performance.effects import believe
from evalfleet_scaling.performance.fit import SIZE_DEVIATION, Fit, effective_key, fit, size_of_model
from evalfleet_scaling.performance.history import History
from evalfleet_scaling.performance.interface import (
    Z90,
    InvalidWorkError,
    Key,
    Prediction,
    Quantity,
    Rung,
    Work,
)
from evalfleet_scaling.performance.measurements import usual
from evalfleet_scaling.performance.roofline import expected


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: a key as far as the quantity depends on it, its work, and what arithmetic says."""

    key: Key
    work: Work
    arithmetic: float
    now_seconds: float


@dataclass(frozen=True, slots=True)
class Predictor:
    """Everything learnt from a history; compute it once per change of the history and ask it often."""

    fits: dict[Quantity, Fit | None]

    def predict(self, quantity: Quantity, key: Key, work: Work, now_seconds: float) -> Prediction:
        """Quantiles of what a run of the key and size will take if it starts about now (seconds since the epoch).

        More FLOPs, bytes, units or seconds of work never give less scoring time at any of the quantiles, nor more
        planned memory less memory.
        """
        require_number(InvalidWorkError, "now_seconds", now_seconds)
        asked = Question(effective_key(quantity, key), work, expected(quantity, work, key.gpu), now_seconds)
        known = self.fits[quantity]
        return _alone(quantity, asked) if known is None else _answer(known, asked)


def predictor(history: History) -> Predictor:
    """Learn from a history; one with 100 keys takes some tenths of a second."""
    return Predictor({quantity: fit(history, quantity) for quantity in Quantity})


def _alone(quantity: Quantity, asked: Question) -> Prediction:
    words = f"no run has finished yet: arithmetic alone for {asked.key.gpu}, eight times of ten within a factor of "
    arithmetic = asked.arithmetic
    factor = exp(usual(quantity).prior * Z90)
    return Prediction(
        arithmetic / factor, arithmetic, arithmetic * factor, Rung.ROOFLINE, 0, f"{words}{factor:.0f} either way"
    )


def _answer(known: Fit, asked: Question) -> Prediction:
    names = known.vocabulary.names([asked.key], [size_of_model(known.quantity, asked.work)])
    place, row = int(names.place[0]), known.index.get(asked.key)
    arithmetic = asked.arithmetic + (float(known.fixed[place]) if place >= 0 else 0.0)
    drift, doubt = known.drifts[place].at(asked.now_seconds) if place >= 0 else (0.0, 0.0)
    belief = believe(known.posterior, names, known.names)
    spread = float(known.levels.spread[row]) if row is not None else _spread_of_place(known, asked.key)
    distance = 0.0 if row is None else log(arithmetic) - float(known.size[row])
    deviation = sqrt(float(belief.variance[0]) + spread**2 + (SIZE_DEVIATION * distance) ** 2 + doubt)
    rung = _rung(known, asked.key)
    stretch = known.seen if rung is Rung.HISTORY else known.unseen
    if rung in (Rung.OTHER_GPU, Rung.ROOFLINE):
        deviation, stretch = max(deviation, usual(known.quantity).prior), NORMAL
    ratio = exp(float(belief.mean[0]) + drift)
    middle = arithmetic * ratio
    low, high = middle * exp(-stretch.below * deviation), middle * exp(stretch.above * deviation)
    runs = int(known.levels.runs[row]) if row is not None else 0
    words = _words(known, asked.key, rung, (ratio, exp(drift), low / middle, high / middle))
    return Prediction(low, middle, high, rung, runs, words)


_WORDS = {
    Rung.HISTORY: "{runs} earlier runs of this on {gpu}",
    Rung.SAME_TASK: "this model has not run this task on {gpu} yet: from {models} other models that did, "
    "and {tasks} other tasks of this model",
    Rung.SAME_MODEL: "this task has not run on {gpu} yet: from {tasks} other tasks of this model there",
    Rung.SAME_GPU: "nothing of this has run on {gpu} yet: from {keys} others that have",
    Rung.OTHER_GPU: "nothing has run on {gpu} with this engine yet: from other devices, "
    "within a factor of {factor:.0f} at best",
    Rung.ROOFLINE: "nothing like it has run yet: arithmetic alone for {gpu}, within a factor of {factor:.0f} at best",
}


def _rung(known: Fit, key: Key) -> Rung:
    """The most specific thing that was met before."""
    if key in known.index:
        return Rung.HISTORY
    here = [other for other in known.index if (other.gpu, other.engine) == (key.gpu, key.engine)]
    by_task = known.quantity is not Quantity.STARTUP_SECONDS
    if by_task and any(other.task == key.task for other in here):
        return Rung.SAME_TASK
    if any(other.model == key.model for other in here):
        return Rung.SAME_MODEL
    if here:
        return Rung.SAME_GPU
    elsewhere = key.model in known.vocabulary.model or (by_task and key.task in known.vocabulary.task)
    return Rung.OTHER_GPU if elsewhere else Rung.ROOFLINE


def _words(known: Fit, key: Key, rung: Rung, factors: tuple[float, float, float, float]) -> str:
    """The answer explained: what it stands on, how it compares to arithmetic, how the place does now, the interval."""
    ratio, drift, low, high = factors
    here = [other for other in known.index if (other.gpu, other.engine) == (key.gpu, key.engine)]
    base = _WORDS[rung].format(
        runs=int(known.levels.runs[known.index[key]]) if key in known.index else 0,
        gpu=key.gpu,
        models=len({other.model for other in here if other.task == key.task}),
        tasks=len({other.task for other in here if other.model == key.model}),
        keys=len(here),
        factor=exp(usual(known.quantity).prior * Z90),
    )
    lately = f" ({drift:.2f} of it because runs there were so lately)" if abs(drift - 1) > 0.01 else ""
    return f"{base}; {ratio:.2f} times what arithmetic says{lately}, 80 % of runs {low:.2f} to {high:.2f} of the median"


def _spread_of_place(known: Fit, key: Key) -> float:
    """Noise of single runs on the key's device, else of all."""
    here = [row for other, row in known.index.items() if (other.gpu, other.engine) == (key.gpu, key.engine)]
    return float(np.median(known.levels.pooled[here] if here else known.levels.pooled))
