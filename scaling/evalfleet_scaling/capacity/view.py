"""What a strategy sees and answers: many jobs at once as arrays, one row a job, one column a worker slot or a pool.

The operator, the simulator and the benchmarks call the same strategies. A row never looks at another row: sharing of
pools between jobs is settled before (each row's `offered` is what that job may take). Arrays keep a decision for a
thousand jobs in the low milliseconds.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

EMPTY = -1  # pool index of a slot without a worker


@dataclass(frozen=True, slots=True)
class CapacityView:
    """Observed state of J jobs with up to K slots each on Z pools; `fallback` is the pool the guarantee rests on.

    Shapes: [J] one per job, [J, K] one per slot, [J, Z] one per pool as that job sees it, [Z] one per pool. Seconds,
    GPU-seconds of a pool with throughput 1, currency units per hour.
    """

    tick_seconds: float  # g: the longest time until the next decision
    elapsed_seconds: FloatArray  # [J] since admission
    left_seconds: FloatArray  # [J] until the deadline; NO_DEADLINE_SECONDS without one
    work_left: FloatArray  # [J]
    work_total: FloatArray  # [J] at admission
    width: IntArray  # [J] slots the job may use
    slot_pool: IntArray  # [J, K] pool index or EMPTY
    startup_left: FloatArray  # [J, K] planned start-up still to come, 0 when ready
    offered: IntArray  # [J, Z] additional workers obtainable now
    steady: IntArray  # [J, Z] of those, how many were offered without a break for some start-ups
    price: FloatArray  # [J, Z] per worker and hour
    startup: FloatArray  # [J, Z] planned start-up (d)
    lifetime: FloatArray  # [J, Z] predicted life of a spot worker started now; inf when not known
    throughput: FloatArray  # [Z] rate of one worker against the reference pool
    is_spot: BoolArray  # [Z]
    fallback: int  # index of the on-demand pool that the guarantee rests on
    fallback_launches: FloatArray  # [J] recent launches on it
    fallback_failures: FloatArray  # [J] of those, how many failed
    was_critical: BoolArray  # [J] answer of the previous decision
    most_spot: IntArray  # [J] most spot workers the job could have had at one moment so far

    @property
    def usable(self) -> BoolArray:
        """[J, K] slots within the job's width."""
        columns: IntArray = np.arange(self.slot_pool.shape[1])
        result: BoolArray = columns[None, :] < self.width[:, None]
        return result

    @property
    def empty(self) -> BoolArray:
        """[J, K] usable slots without a worker."""
        result: BoolArray = self.usable & (self.slot_pool == EMPTY)
        return result

    @property
    def on_spot(self) -> BoolArray:
        """[J, K] slots with a worker that can be taken away."""
        result: BoolArray = (self.slot_pool >= 0) & self.is_spot[self.slot_pool]
        return result

    @property
    def on_demand(self) -> BoolArray:
        """[J, K] slots with a worker that cannot be taken away."""
        result: BoolArray = (self.slot_pool >= 0) & ~self.is_spot[self.slot_pool]
        return result

    @property
    def fallback_startup(self) -> FloatArray:
        """[J] planned start-up of the fallback pool: the d of the guarantee."""
        result: FloatArray = self.startup[:, self.fallback]
        return result

    @property
    def spot_startup(self) -> FloatArray:
        """[J] longest planned start-up of the spot pools; the fallback's where there is none."""
        if not self.is_spot.any():
            return self.fallback_startup
        result: FloatArray = self.startup[:, self.is_spot].max(axis=1)
        return result

    @property
    def worthwhile(self) -> BoolArray:
        """[J, Z] spot pools on which work is expected to be cheaper than on the fallback.

        A worker costs c * L and works L - d: it pays when L > k*d/(k-1) with k = fallback price / c per unit of work.
        Where spot is all there is, nothing is to be compared.
        """
        if self.is_spot[self.fallback]:
            return np.broadcast_to(self.is_spot, self.price.shape)
        cost = self.price / self.throughput
        fallback = cost[:, self.fallback, None]
        with np.errstate(invalid="ignore"):
            pays = fallback * (self.lifetime - self.startup) > cost * self.lifetime
        endless = ~np.isfinite(self.lifetime) & (cost < fallback)
        result: BoolArray = self.is_spot[None, :] & (pays | endless)
        return result

    @property
    def spot_offered(self) -> IntArray:
        """[J, Z] `offered` of the worthwhile spot pools, 0 elsewhere."""
        return np.where(self.worthwhile, self.offered, 0)

    @property
    def spot_steady(self) -> IntArray:
        """[J, Z] `steady` of the worthwhile spot pools, never above what is offered now."""
        return np.where(self.worthwhile, np.minimum(self.steady, self.offered), 0)


# Stands for "no deadline": ten years, so that arithmetic needs no special case for infinity.
NO_DEADLINE_SECONDS = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class CapacityPlan:
    """Answer of a strategy: the pool every slot should have now (EMPTY: none) and why.

    A slot whose pool differs from the view's is stopped and started anew; an equal one is left alone.
    """

    slot_pool: IntArray  # [J, K]
    critical: BoolArray  # [J] nothing but the guarantee counts now
    slack: FloatArray  # [J] guaranteed work beyond the work left, GPU-seconds
