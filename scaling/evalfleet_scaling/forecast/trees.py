"""Boosted trees as plain arrays: trained by scikit-learn, stored and evaluated without it, and without pickle.

A tree of at most 12 leaves is 11 comparisons. Each comparison x > threshold that holds rules out leaves to its left:
the first leaf left over is the answer (QuickScorer, Lucchese et al. 2015). The arrays have a fixed shape and hold no
pointers, so that a damaged or hostile file can give a wrong number but never run or loop.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evalfleet_scaling.forecast.interface import FloatArray

TREES = 48
LEARNING_RATE = 0.1
"""48 trees at 0.1 score like 80 at 0.06 (decision 0072) and train in little more than half the time."""
LEAVES = 12
SPLITS = LEAVES - 1
ALL_LEAVES = 0xFFFF
FIRST_LEAF = np.array(
    [(mask & -mask).bit_length() - 1 if mask else 0 for mask in range(ALL_LEAVES + 1)], dtype=np.uint8
)


@dataclass(frozen=True, slots=True)
class Forest:
    """One boosted quantile regressor.

    Attributes:
        feature: shape (trees, splits), uint8.
        threshold: shape (trees, splits), float32; infinite where the tree has fewer splits.
        leaves: shape (trees, splits), uint16, leaves that stay possible when x > threshold.
        value: shape (trees, leaves), float32.
        baseline: what the trees add to.
    """

    feature: NDArray[np.uint8]
    threshold: NDArray[np.float32]
    leaves: NDArray[np.uint16]
    value: NDArray[np.float32]
    baseline: float

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of rows of shape (n, features), shape (n,)."""
        right = rows.astype(np.float32)[:, self.feature.ravel()] > self.threshold.ravel()
        possible = np.where(right, self.leaves.ravel(), np.uint16(ALL_LEAVES)).reshape(len(rows), TREES, SPLITS)
        leaf = FIRST_LEAF[np.bitwise_and.reduce(possible, axis=2)]
        values = self.value[np.arange(TREES), np.minimum(leaf, LEAVES - 1)]
        return np.asarray(self.baseline + values.astype(np.float64).sum(axis=1), dtype=np.float64)


def fit_quantile(rows: FloatArray, targets: FloatArray, level: float, samples_per_leaf: int) -> Forest:
    """Fit HistGradientBoosting with quantile loss and export it; one thread (callers limit OpenMP)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="quantile",
        quantile=level,
        max_iter=TREES,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=samples_per_leaf,
        l2_regularization=1.0,
        max_bins=64,
        early_stopping=False,
        random_state=0,
    )
    model.fit(rows, targets)
    return export(model)


def export(model: object) -> Forest:
    """Arrays of a fitted HistGradientBoostingRegressor without missing values or categories."""
    feature = np.zeros((TREES, SPLITS), dtype=np.uint8)
    threshold = np.full((TREES, SPLITS), np.inf, dtype=np.float32)
    leaves = np.full((TREES, SPLITS), ALL_LEAVES, dtype=np.uint16)
    value = np.zeros((TREES, LEAVES), dtype=np.float32)
    for tree, (predictor,) in enumerate(model._predictors):  # type: ignore[attr-defined]
        _export_tree(predictor.nodes, feature[tree], threshold[tree], leaves[tree], value[tree])
    return Forest(feature, threshold, leaves, value, float(np.ravel(model._baseline_prediction)[0]))  # type: ignore[attr-defined]


def _export_tree(
    nodes: np.ndarray, feature: np.ndarray, threshold: np.ndarray, leaves: np.ndarray, value: np.ndarray
) -> None:
    splits = 0
    seen = 0

    def visit(index: int) -> None:
        """Number the leaves from left to right; a split rules out the leaves of its left side."""
        nonlocal splits, seen
        node = nodes[index]
        if node["is_leaf"]:
            value[seen] = node["value"]
            seen += 1
            return
        mine, first = splits, seen
        splits += 1
        feature[mine], threshold[mine] = node["feature_idx"], node["num_threshold"]
        visit(int(node["left"]))
        leaves[mine] = ALL_LEAVES & ~(((1 << seen) - 1) & ~((1 << first) - 1))
        visit(int(node["right"]))

    visit(0)
