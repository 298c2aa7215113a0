"""Trees of the forecast benchmarks, kept by the numbers they were trained on.

Training takes most of the benchmark's time, and is a pure function of rows, targets, level and leaf size. Forests are
kept under the digest of these, so that a change elsewhere in the forecast trains nothing again.
"""

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from evalfleet_lab.bench.forecast_parts import Store, digest, versions
from evalfleet_scaling.forecast import trees
from evalfleet_scaling.forecast.boosting import Boosted, TrainingSet, train
from evalfleet_scaling.forecast.interface import FloatArray
from evalfleet_scaling.forecast.trees import Forest, fit_quantile


@dataclass
class KeptTrees:
    """A trainer that looks in the store first.

    Attributes:
        store: where forests are kept.
        spared_seconds: CPU seconds that kept forests took when they were trained.
    """

    store: Store
    spared_seconds: float = 0.0

    def __call__(self, training: TrainingSet) -> Boosted | None:
        """Trees of a training set, trained or found."""
        return train(training, self._fit)

    def _fit(self, rows: FloatArray, targets: FloatArray, level: float, samples_per_leaf: int) -> Forest:
        key = digest("forest", rows, targets, level, samples_per_leaf, trees_digest())
        found = self.store.load(key)
        if found is not None:
            self.spared_seconds += found[0]["cpuSeconds"]
            arrays = found[1]
            return Forest(
                arrays["feature"], arrays["threshold"], arrays["leaves"], arrays["value"], found[0]["baseline"]
            )
        began = time.process_time()
        forest = fit_quantile(rows, targets, level, samples_per_leaf)
        facts = {"baseline": forest.baseline, "cpuSeconds": time.process_time() - began}
        names = ("feature", "threshold", "leaves", "value")
        self.store.save(key, (facts, {name: np.asarray(getattr(forest, name)) for name in names}))
        return forest


@cache
def trees_digest() -> str:
    """Digest of the code that trains, and of the libraries."""
    return digest(Path(str(trees.__file__)).read_bytes(), *versions().values())
