"""Bootstrap of metrics that have no formula: the same samples and draws give the same bytes.

The number of draws follows from n and the kind of the metric, never from a clock. Where the metric is evaluated on
drawn samples, the draws are those of lm-eval (`random.Random(i).choices` for every thousand i), so that standard errors
are those of `lm_eval` with as many iterations.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Statistic = Callable[[Values], Sequence[float]]
"""(samples drawn x draws, or draws x statistics) -> one value per draw."""
Progress = Callable[[str], None]

CHUNK = 1_000
"""Draws that share a seed."""
MOST_DRAWS = 100_000
MOST_DRAWN = 10**9
"""Samples drawn for a metric of numbers: up to 10,000 samples allow all draws; more samples need fewer draws."""
SUMMED_DRAWS = 1_000
DEAR_DRAWS = 200
IN_MEMORY = 4_000_000
"""Numbers that one step of a vectorised bootstrap holds."""
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """What the draws of a metric say.

    Attributes:
        draws: how many there were.
        standard_error: standard deviation over the draws; None when every draw gave the same value.
        low: lower end of the 95 % percentile interval; None as above.
        high: upper end.
    """

    draws: int
    standard_error: float | None
    low: float | None
    high: float | None

    @property
    def method(self) -> str:
        """How the interval was computed, or why there is none."""
        how = f"bootstrap ({self.draws:,} draws)"
        return f"{how}: every draw gives the same value, no interval" if self.low is None else f"{how}, percentiles"


def draws_of_numbers(n: int) -> int:
    """Draws of a vectorised metric of n numbers: a multiple of `CHUNK`."""
    return CHUNK * max(1, min(MOST_DRAWS // CHUNK, MOST_DRAWN // (CHUNK * n)))


def of_numbers(samples: Sequence[float], statistic: Statistic, progress: Progress) -> Bootstrap:
    """A metric of numbers; `statistic` takes the drawn samples, one draw per column."""
    found: list[float] = []
    numbers = np.asarray(samples, dtype=np.float64)
    draws = draws_of_numbers(len(numbers))
    for chosen in drawn_indices(len(numbers), draws, progress):
        found.extend(statistic(numbers[np.ascontiguousarray(chosen.T)]))
    return summary(found)


def of_sums(samples: Sequence[Sequence[float]], score: Callable[[Any], float], progress: Progress) -> Bootstrap:
    """A metric of summed statistics of its samples (BLEU, chrF, TER); `score` takes the sums of one draw."""
    found: list[float] = []
    statistics = np.asarray(samples)
    for chosen in drawn_indices(len(statistics), SUMMED_DRAWS, progress, statistics.shape[1]):
        found.extend(score(sums) for sums in statistics[chosen].sum(axis=1))
    return summary(found)


def of_counts(counts: Sequence[int], statistic: Callable[[Counts], Sequence[float]]) -> Bootstrap:
    """A metric of how often each kind of sample occurs: multinomial draws cost nothing, whatever n is."""
    n = sum(counts)
    drawn = np.random.default_rng(0).multinomial(n, np.asarray(counts) / n, size=MOST_DRAWS)
    return summary(statistic(drawn))


def of_samples(samples: Sequence[Any], metric: Callable[[Sequence[Any]], float], progress: Progress) -> Bootstrap:
    """Any metric, evaluated on every draw: dear."""
    found: list[float] = []
    for chosen in drawn_indices(len(samples), DEAR_DRAWS, progress):
        found.extend(float(metric([samples[index] for index in draw])) for draw in chosen)
    return summary(found)


def drawn_indices(n: int, draws: int, progress: Progress, width: int = 1) -> Iterator[npt.NDArray[np.int64]]:
    """Sample indices (some draws x n), in all `draws` draws; `width` numbers are held for each index."""
    step = max(1, IN_MEMORY // (n * width))
    for chunk in range(-(-draws // CHUNK)):
        wanted = min(CHUNK, draws - chunk * CHUNK)
        uniform = _uniform(chunk)
        for begin in range(0, wanted, step):
            size = (min(step, wanted - begin), n)
            yield np.floor(uniform.random_sample(size) * float(n)).astype(np.int64)
        if (chunk + 1) % 10 == 0:
            progress(f"{(chunk + 1) * CHUNK:,} of {draws:,} draws")


def summary(values: Sequence[float]) -> Bootstrap:
    """Standard deviation (lm-eval's sum) and percentiles of the metric over the draws."""
    if min(values) == max(values):
        return Bootstrap(len(values), None, None, None)
    middle = sum(values) / len(values)
    error = math.sqrt(sum([(value - middle) ** 2 for value in values]) / (len(values) - 1))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(values, dtype=np.float64), [tail, 1 - tail])
    return Bootstrap(len(values), error, float(low), float(high))


def _uniform(seed: int) -> np.random.RandomState:
    """A Mersenne Twister in the state of `random.Random(seed)`: the same uniform numbers, by the million."""
    *key, position = random.Random(seed).getstate()[1]
    state = np.random.RandomState()
    state.set_state(("MT19937", np.asarray(key, dtype=np.uint32), position, 0, 0.0))
    return state
