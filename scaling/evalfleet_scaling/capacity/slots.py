"""Array steps that strategies share: picking slots and pools, always in a fixed, explainable order."""

import numpy as np

from evalfleet_scaling.capacity.view import EMPTY, BoolArray, CapacityView, FloatArray, IntArray


def first(mask: BoolArray, count: IntArray) -> BoolArray:
    """The first `count[j]` true entries of every row of `mask` [J, K]."""
    result: BoolArray = mask & (np.cumsum(mask, axis=1) <= count[:, None])
    return result


def first_by(mask: BoolArray, count: IntArray, key: FloatArray) -> BoolArray:
    """The `count[j]` true entries of every row with the smallest `key` [J, K], leftmost on ties."""
    chosen = np.zeros_like(mask)
    if not count.any():
        return chosen
    order = np.argsort(np.where(mask, key, np.inf), axis=1, kind="stable")
    columns = np.arange(mask.shape[1])
    np.put_along_axis(chosen, order, columns[None, :] < count[:, None], axis=1)
    result: BoolArray = chosen & mask
    return result


def spot_order(view: CapacityView) -> IntArray:
    """[J, Zs] indices of the spot pools by price per unit of work, cheapest first (leftmost on ties)."""
    spots = np.flatnonzero(view.is_spot)
    if len(spots) <= 1:
        return np.broadcast_to(spots, (len(view.width), len(spots)))
    price = view.price[:, spots] / view.throughput[spots]
    result: IntArray = spots[np.argsort(price, axis=1, kind="stable")]
    return result


def fill(slot_pool: IntArray, chosen: BoolArray, order: IntArray, offered: IntArray) -> IntArray:
    """Put the chosen slots on the pools of `order` [J, Zs], each up to its offer [J, Z]; the rest becomes EMPTY.

    Returns a new [J, K] array.
    """
    row, column = np.nonzero(chosen)
    if len(row) == 0:
        return slot_pool
    rank = np.arange(len(row)) - np.searchsorted(row, row, side="left")  # within the row
    capacity = np.cumsum(np.take_along_axis(offered, order, axis=1), axis=1)
    position = (rank[:, None] >= capacity[row]).sum(axis=1)
    pools = np.concatenate([order, np.full((len(order), 1), EMPTY)], axis=1)
    filled = slot_pool.copy()
    filled[row, column] = pools[row, position]
    return filled


def fill_spot(view: CapacityView, slot_pool: IntArray, most: IntArray | None = None) -> IntArray:
    """Give empty usable slots the cheapest spot offered, at most `most[j]` of them; the others stay empty."""
    empty = view.usable & (slot_pool == EMPTY)
    offered = view.spot_offered
    count = np.minimum(empty.sum(axis=1), offered.sum(axis=1))
    if most is not None:
        count = np.minimum(count, np.maximum(most, 0))
    return fill(slot_pool, first(empty, count), spot_order(view), offered)


def fill_fallback(view: CapacityView, slot_pool: IntArray, most: IntArray) -> IntArray:
    """Give the first `most[j]` empty usable slots the fallback pool."""
    empty = view.usable & (slot_pool == EMPTY)
    return np.where(first(empty, np.maximum(most, 0)), view.fallback, slot_pool)


def whole(count: FloatArray) -> IntArray:
    """Counts from reals: rounded down with a tolerance for representation, never negative."""
    result: IntArray = np.floor(np.clip(count, 0, 1e9) + 1e-9).astype(np.int64)
    return result


def whole_up(count: FloatArray) -> IntArray:
    """Counts from reals: rounded up with a tolerance for representation, never negative."""
    result: IntArray = np.ceil(np.clip(count, 0, 1e9) - 1e-9).astype(np.int64)
    return result


ALL = 10**6  # more slots than any job has
