"""Asking the strategy which capacity every slot of every active job should have.

Rows are handed over in groups of similar width, so that one wide job does not make the arrays of all others wide.
"""

from dataclasses import dataclass

import numpy as np

from evalfleet_scaling.arrays import BoolArray, FloatArray, IntArray
from evalfleet_scaling.capacity.strategy import Strategy
from evalfleet_scaling.capacity.view import EMPTY, NO_DEADLINE_SECONDS, CapacityView
from evalfleet_scaling.fleet.accept import Accepted
from evalfleet_scaling.fleet.lookahead import Lookahead
from evalfleet_scaling.fleet.money import Money
from evalfleet_scaling.fleet.share import SpotShare
from evalfleet_scaling.fleet.slots import Slots, joined
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.promises import ROUNDING

STEADY_STARTUPS = 2.0  # an offer that stood for this many start-ups is worth a swap
_WIDTHS = (4, 16, 64, 256, 1024, 4096)


@dataclass(frozen=True, slots=True)
class Mix:
    """Answers of the strategy for all jobs."""

    slots: Slots
    critical: BoolArray  # [J]
    slack: FloatArray  # [J] GPU-seconds; nan where not known
    needed: IntArray  # [J] on-demand workers that the promise needs on average where the quota is shared, else 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What each job may count on, settled before its strategy is asked."""

    share: SpotShare
    lookahead: Lookahead
    money: Money


def mix_capacity(fleet: Fleet, accepted: Accepted, bounds: Bounds, strategy: Strategy) -> Mix:
    """Let the strategy decide all active jobs, then add what the lookahead demands."""
    count = len(fleet.jobs.work)
    critical, slack = np.zeros(count, dtype=np.bool_), np.full(count, np.nan)
    parts: list[Slots] = []
    for rows, columns in _groups(fleet, accepted):
        held = _held_slots(fleet, bounds.share, rows, columns)
        plan = strategy.decide(_view(fleet, bounds, rows, held))
        critical[rows], slack[rows] = plan.critical, plan.slack
        parts.append(
            _demanded(fleet, bounds.lookahead, rows, held, (plan.slot_pool, plan.critical & accepted.guaranteed[rows]))
        )
    shares = np.nan_to_num(bounds.lookahead.shares) if bounds.lookahead.contended else np.zeros(count)
    needed = np.ceil(shares - ROUNDING).astype(np.int64)
    return Mix(joined(*parts), critical & accepted.guaranteed, slack, needed)


@dataclass(frozen=True, slots=True)
class _Held:
    """Slots of a group as they are: worker rows and pools, [rows, columns]."""

    worker: IntArray
    pool: IntArray
    startup_left: FloatArray


def _groups(fleet: Fleet, accepted: Accepted) -> list[tuple[IntArray, int]]:
    active = np.flatnonzero(accepted.active)
    width = fleet.jobs.width[active]
    groups, below = [], 0
    widest = int(width.max(initial=0))
    for most in (*_WIDTHS, max(widest, 1)):
        rows = active[(width > below) & (width <= most)]
        if len(rows):
            groups.append((rows, int(fleet.jobs.width[rows].max())))
        below = max(below, most)
    return groups


def _held_slots(fleet: Fleet, share: SpotShare, rows: IntArray, columns: int) -> _Held:
    """Workers of the group; those beyond the width and those taken back for others have lost their slot."""
    workers = fleet.workers
    local = np.full(len(fleet.jobs.work), -1)
    local[rows] = np.arange(len(rows))
    inside = (local[workers.job] >= 0) & (workers.position < fleet.jobs.width[workers.job])
    inside[share.reclaim] = False
    mine = np.flatnonzero(inside)
    row, column = local[workers.job[mine]], workers.position[mine]
    worker = np.full((len(rows), columns), -1)
    pool = np.full((len(rows), columns), EMPTY)
    startup = np.zeros((len(rows), columns))
    worker[row, column] = mine
    pool[row, column] = workers.pool[mine]
    startup[row, column] = workers.startup_left[mine]
    return _Held(worker, pool, startup)


def _view(fleet: Fleet, bounds: Bounds, rows: IntArray, held: _Held) -> CapacityView:
    jobs, pools = fleet.jobs, fleet.pools
    # Where the budget forbids on-demand there is nothing to plan with but spot: no deadline for the strategy.
    left = np.where(bounds.money.spot_only, NO_DEADLINE_SECONDS, bounds.lookahead.effective_left)[rows]
    shape = (len(rows), len(pools.names))
    offered = bounds.share.offered[rows].copy()
    if len(pools.on_demand):  # where spot is all there is, its own offers hold for the fallback too
        offered[:, pools.fallback] = jobs.width[rows]
    age = np.maximum(fleet.now - pools.offered_since, 0.0)
    aged = age >= STEADY_STARTUPS * pools.startup
    ones = np.ones(len(rows))
    return CapacityView(
        tick_seconds=fleet.tick,
        elapsed_seconds=jobs.elapsed[rows],
        left_seconds=np.clip(left, 0.0, NO_DEADLINE_SECONDS),
        work_left=jobs.work[rows] * pools.throughput[pools.fallback],
        work_total=jobs.work_total[rows] * pools.throughput[pools.fallback],
        width=jobs.width[rows],
        slot_pool=held.pool,
        startup_left=held.startup_left,
        offered=offered,
        steady=np.where(aged[None, :], offered, 0),
        price=np.broadcast_to(pools.price, shape),
        startup=np.broadcast_to(pools.startup, shape),
        lifetime=np.broadcast_to(pools.lifetime, shape),
        throughput=pools.throughput,
        is_spot=pools.is_spot,
        fallback=pools.fallback,
        fallback_launches=ones * pools.launches[pools.fallback],
        fallback_failures=ones * pools.launch_failures[pools.fallback],
        was_critical=jobs.was_critical[rows],
        most_spot=bounds.share.most_spot[rows],
    )


def _demanded(
    fleet: Fleet, lookahead: Lookahead, rows: IntArray, held: _Held, plan: tuple[IntArray, BoolArray]
) -> Slots:
    """The plan of a group (pools, critical) with the lookahead's demands on top, as flat entries."""
    wanted, critical = plan
    pools = fleet.pools
    steady = (held.pool >= 0) & ~pools.is_spot[held.pool]
    keeps = steady & (np.cumsum(steady, axis=1) <= lookahead.must_keep[rows][:, None])
    wanted = np.where(keeps, held.pool, wanted)
    fallback = (wanted == pools.fallback) & ~steady
    missing = np.maximum(lookahead.must_start[rows] - fallback.sum(axis=1), 0)
    if missing.any():
        usable = np.arange(wanted.shape[1])[None, :] < fleet.jobs.width[rows][:, None]
        # Empty slots first, then slots on spot, which keep working only if they need not yield.
        free = usable & ~steady & ~fallback
        empty_first = np.argsort(np.where(free, np.where(wanted == EMPTY, 0, 1), 2), axis=1, kind="stable")
        chosen = np.zeros_like(free)
        np.put_along_axis(chosen, empty_first, np.arange(wanted.shape[1])[None, :] < missing[:, None], axis=1)
        wanted = np.where(chosen & free, pools.fallback, wanted)
        fallback |= chosen & free
    starts = fallback & (np.cumsum(fallback, axis=1) <= lookahead.must_start[rows][:, None])
    must = keeps | starts
    if not lookahead.contended:  # nobody else's promise needs these workers, so each job's own slack suffices
        must |= critical[:, None] & (wanted != EMPTY) & ~pools.is_spot[wanted]
    row, column = np.nonzero(wanted != EMPTY)
    stays = wanted[row, column] == held.pool[row, column]
    return Slots(
        job=rows[row],
        pool=wanted[row, column],
        worker=np.where(stays, held.worker[row, column], -1),
        must=must[row, column],
    )
