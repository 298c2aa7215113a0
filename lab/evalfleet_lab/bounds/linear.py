"""Linear programme of the cheapest plan that knows the future: many jobs, many pools, solved by HiGHS.

min  sum_t g * (sum_jz c_zt s_jzt + c_od o_jt)
s.t. sum_j s_jzt <= a_zt;  sum_z s_jzt + o_jt <= P_j;  x, y >= increases of s, o
     sum_{t in [r_j, D_j)} [g * (sum_z s_jzt + o_jt) - d * (sum_z x_jzt + y_jt)] >= W_j

It relaxes whole workers to fractions and charges start-ups in aggregate, so that no plan can cost less.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array

from evalfleet_scaling.capacity.view import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class BoundJob:
    """A job of the bound: may run in ticks [release_tick, deadline_tick) on at most `width` workers."""

    work: float  # GPU-seconds
    width: int
    release_tick: int
    deadline_tick: int


@dataclass(frozen=True, slots=True)
class BoundMarket:
    """What the omniscient planner knows: counts [T, Z], prices per hour [T, Z], tick and start-up in seconds."""

    counts: IntArray
    spot_price: FloatArray
    on_demand_price: float
    tick_seconds: float
    startup_seconds: float
    on_demand_quota: int | None = None


def linear_bound(market: BoundMarket, jobs: list[BoundJob]) -> float:
    """Least cost of doing all jobs in time, in currency units; inf when no plan does."""
    programme = _Programme(market)
    for job in jobs:
        programme.add(job)
    return programme.solve()


class _Programme:
    """Rows and columns of the LP, collected job by job."""

    def __init__(self, market: BoundMarket) -> None:
        self.market = market
        self.pools = market.counts.shape[1] + 1
        self.cost: list[FloatArray] = []
        self.rows: list[IntArray] = []
        self.columns: list[IntArray] = []
        self.values: list[FloatArray] = []
        self.limit: list[FloatArray] = []
        self.row_count = 0
        self.column_count = 0
        self.upper: list[FloatArray] = []
        self.use: list[tuple[BoundJob, int]] = []

    def add(self, job: BoundJob) -> None:
        """Variables n[t, z] (workers) and x[t, z] (starts) of one job, its width, its starts, its work."""
        market, pools = self.market, self.pools
        ticks = job.deadline_tick - job.release_tick
        span = slice(job.release_tick, job.deadline_tick)
        first = self.column_count
        n = first + np.arange(ticks * pools).reshape(ticks, pools)
        x = n + ticks * pools
        self.column_count += 2 * ticks * pools
        hours = market.tick_seconds / 3600.0
        price = np.concatenate([market.spot_price[span], np.full((ticks, 1), market.on_demand_price)], axis=1)
        self.cost.append(np.concatenate([(price * hours).ravel(), np.zeros(ticks * pools)]))
        cap = np.concatenate([market.counts[span], np.full((ticks, 1), job.width)], axis=1).astype(float)
        self.upper.append(
            np.concatenate([np.minimum(cap, job.width).ravel(), np.full(ticks * pools, float(job.width))])
        )
        self._rows(np.repeat(np.arange(ticks), pools), n.ravel(), np.ones(n.size), np.full(ticks, float(job.width)))
        index = np.arange(ticks * pools)
        self._rows(
            np.concatenate([index, index[pools:], index]),
            np.concatenate([n.ravel(), n.ravel()[:-pools], x.ravel()]),
            np.concatenate([np.ones(n.size), -np.ones(n.size - pools), -np.ones(n.size)]),
            np.zeros(n.size),
        )
        self._rows(
            np.zeros(2 * n.size, dtype=np.int64),
            np.concatenate([n.ravel(), x.ravel()]),
            np.concatenate([np.full(n.size, -market.tick_seconds), np.full(n.size, market.startup_seconds)]),
            np.array([-job.work]),
        )
        self.use.append((job, first))

    def _share_pools(self) -> None:
        """Jobs together stay within the counts of every tick and the on-demand quota."""
        market = self.market
        if len(self.use) == 1 and market.on_demand_quota is None:
            return
        ticks = market.counts.shape[0]
        quota = np.inf if market.on_demand_quota is None else float(market.on_demand_quota)
        cap = np.concatenate([market.counts, np.full((ticks, 1), quota)], axis=1).ravel()
        rows, columns = [], []
        for job, first in self.use:
            size = (job.deadline_tick - job.release_tick) * self.pools
            rows.append(job.release_tick * self.pools + np.arange(size))
            columns.append(first + np.arange(size))
        row, column = np.concatenate(rows), np.concatenate(columns)
        keep = np.isfinite(cap)
        renumber = np.cumsum(keep) - 1
        used = keep[row]
        self._rows(renumber[row[used]], column[used], np.ones(int(used.sum())), cap[keep])

    def _rows(self, row: IntArray, column: IntArray, value: FloatArray, limit: FloatArray) -> None:
        self.rows.append(row + self.row_count)
        self.columns.append(column)
        self.values.append(value)
        self.limit.append(limit)
        self.row_count += len(limit)

    def solve(self) -> float:
        self._share_pools()
        matrix: csr_array = coo_array(
            (np.concatenate(self.values), (np.concatenate(self.rows), np.concatenate(self.columns))),
            shape=(self.row_count, self.column_count),
        ).tocsr()
        upper = np.concatenate(self.upper)
        result = linprog(
            np.concatenate(self.cost),
            A_ub=matrix,
            b_ub=np.concatenate(self.limit),
            bounds=np.stack([np.zeros_like(upper), upper], axis=1),
            method="highs",
        )
        if result.status == 2:
            return float("inf")
        if result.status != 0:
            raise ArithmeticError(f"the LP was not solved: {result.message}")
        return float(result.fun)
