"""Workers that are wanted whatever the strategy says: queue-wait SLA, `minWorkers`, aging, and fleets without spot."""

from dataclasses import replace

import numpy as np

from evalfleet_scaling.arrays import BoolArray, IntArray
from evalfleet_scaling.fleet.accept import Accepted, Standing
from evalfleet_scaling.fleet.share import STARVATION_SECONDS
from evalfleet_scaling.fleet.slots import Slots, held_slots, new_slots, nth_of_job, selected, unused_workers
from evalfleet_scaling.fleet.tables import Fleet
from evalfleet_scaling.model import StrategyName


def minimum_slots(fleet: Fleet, accepted: Accepted, wanted: Slots) -> tuple[Slots, Slots]:
    """On-demand workers beside the strategy's: those that a job has and keeps, and new ones. Limits apply to both."""
    count = len(fleet.jobs.work)
    have = np.bincount(wanted.job, minlength=count)
    missing = np.maximum(_least(fleet, accepted, have > 0) - have, _bridges(fleet, accepted, wanted))
    missing = np.where(accepted.active, np.minimum(missing, fleet.jobs.width), 0)
    if not missing.any() or len(fleet.pools.on_demand) == 0 or fleet.snapshot.strategy is StrategyName.SPOT_ONLY:
        missing = np.zeros(count, dtype=np.int64)
    dropped = unused_workers(fleet, wanted)
    dropped = dropped[~fleet.pools.is_spot[fleet.workers.pool[dropped]]]
    held = held_slots(fleet, dropped)
    held = selected(held, nth_of_job(held.job) < missing[held.job])
    missing = missing - np.bincount(held.job, minlength=count)
    return held, replace(new_slots(missing, fleet.pools.fallback))


def is_due(fleet: Fleet) -> BoolArray:
    """[J] where an on-demand worker must start now, or none would be ready by submission + queue wait."""
    startup = float(fleet.pools.startup[fleet.pools.fallback])
    result: BoolArray = fleet.jobs.queue_left <= startup + fleet.tick
    return result


def _least(fleet: Fleet, accepted: Accepted, runs: BoolArray) -> IntArray:
    """[J] fewest workers a job should have now."""
    jobs = fleet.jobs
    no_deadline = accepted.standing == Standing.NO_DEADLINE
    waits_badly = is_due(fleet) | (no_deadline & (jobs.waited >= STARVATION_SECONDS))
    # A job gets its `minWorkers` once it runs at all: waiting for spot is allowed before.
    least = np.maximum(np.where(runs, jobs.min_workers, 0), waits_badly.astype(np.int64))
    return np.where(no_deadline & ~_can_use_spot(fleet), jobs.width, least)


def _bridges(fleet: Fleet, accepted: Accepted, wanted: Slots) -> IntArray:
    """[J] 1 where an on-demand worker that ended a wait must stay until another is ready, or the wait begins again."""
    count, workers = len(fleet.jobs.work), fleet.workers
    on_demand = ~fleet.pools.is_spot[workers.pool]
    staying = wanted.worker[wanted.worker >= 0]
    ready = staying[workers.startup_left[staying] <= 0]
    has_on_demand = np.bincount(workers.job[on_demand], minlength=count) > 0
    nobody_ready = np.bincount(workers.job[ready], minlength=count) == 0
    waited = (accepted.standing == Standing.NO_DEADLINE) | fleet.jobs.has_queue_wait
    return np.where(has_on_demand & nobody_ready & waited, 1, 0)


def _can_use_spot(fleet: Fleet) -> BoolArray:
    """[J] where waiting for spot makes sense: there is some for the job, and it is cheaper."""
    pools = fleet.pools
    cost = pools.price / pools.throughput
    usable = pools.is_spot & (pools.max_workers > 0) & (cost < cost[pools.fallback])
    if fleet.jobs.allowed is None:
        return np.full(len(fleet.jobs.work), bool(usable.any()))
    result: BoolArray = np.any(fleet.jobs.allowed & usable[None, :], axis=1)
    return result
